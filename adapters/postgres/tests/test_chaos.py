"""Proves that everything at once loses, doubles and misses nothing; a bare driver is the oracle.

Each fault comes at least once; `EVENTPORT_CHAOS_SECONDS=600` lets each test go on for ten minutes.
"""

from __future__ import annotations

import asyncio
import logging

from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from adapters.postgres.tests.chaos import OTHERS, Faults, Promotions
from adapters.postgres.tests.gate import wait_until
from adapters.postgres.tests.server import bare_connection, running_server, url_through

from eventport import EventStore, HistoryReplacedError, StoreUnavailableError

from eventport_conformance.chaos import Writers, chaos_seconds, disturb, follow, seeded_random
from eventport_conformance.journals import Found, check
from eventport_conformance.proxy import open_proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_postgres import PostgresEventStore


_log = logging.getLogger(__name__)

SECONDS = chaos_seconds(0)
PROCESSES = 6 if SECONDS else 3
"""How many writers there are; to start one takes longer than many faults."""

# A short form without a standby would show no more than those with one do.
STANDBYS = ("none", "synchronous", "lagging") if SECONDS else ("synchronous", "lagging")


async def follow_all(store: EventStore, seen: list[Found], replaced: list[str]) -> None:
    """Follow a store to its end, and resume where its history was replaced."""
    while not await _follow_one_history(store, seen, replaced):
        current: dict[int, str] | None = None
        while current is None:
            with suppress(StoreUnavailableError):
                current = {event.position: str(event.id) async for event in store.iterate_all()}
        same = (current.get(event.position) == event.id for event in seen)
        first = next((index for index, is_same in enumerate(same) if not is_same), len(seen))
        del seen[first:]


async def _follow_one_history(store: EventStore, seen: list[Found], replaced: list[str]) -> bool:
    try:
        await follow(store, seen)
    except HistoryReplacedError as exc:
        replaced.append(str(exc))
        return False
    return True


@pytest.mark.parametrize("standby", STANDBYS)
async def test_nothing_is_lost_doubled_missed_or_left_open(
    schema: str, tmp_path: Path, standby: str
) -> None:
    """Without a standby, with one that has all that was acknowledged, and with one that has not.

    Only what the lagging standby did not have when it was promoted may be lost, and then the
    reader gets an error that says so.
    """
    chosen = seeded_random()
    seen: list[Found] = []
    replaced: list[str] = []
    with running_server("fsync = off\n") as server, ExitStack() as stack:
        async with bare_connection(server.url) as admin:
            await admin.execute("CREATE ROLE chaos LOGIN SUPERUSER")
        async with open_proxy(server.socket) as line:
            url = url_through(line, "chaos")
            writers = Writers([f"{url}&schema={schema}&timeout=3"], tmp_path)
            faults = Faults(server, line, schema, writers, chosen)
            promotions = Promotions(
                faults, line, writers, seen, stack, synchronous=standby == "synchronous"
            )
            store = await PostgresEventStore.connect(url, schema=schema, timeout=3)
            following = asyncio.create_task(follow_all(store, seen, replaced))
            try:
                for _ in range(PROCESSES):
                    writers.start()
                with no_hang(seconds=SECONDS + 10 * HANG_SECONDS):
                    if standby != "none":
                        await promotions.follow_primary()
                        faults.seldom.append(promotions.promote)
                    happened = await disturb(SECONDS, writers, chosen, faults.often, faults.seldom)
                    await writers.stop()
            finally:
                writers.end()
            stored = await faults.stored()
            end = stored[-1]
            await until(
                lambda: following.done() or seen[-1:] == [end], "the reader sees all events"
            )
            await store.aclose()
            await following
        async with faults.admin() as admin:
            await wait_until(admin, f"SELECT count(*) = 0 FROM ({OTHERS}) AS o")  # ours
        counted = check(stored, tmp_path, seen, forgotten=promotions.forgotten)
        lost = len(promotions.forgotten)
    _log.info("%s; %d lost, %d replaced; %s", counted, lost, len(replaced), dict(happened))
    if standby == "lagging":
        assert len(replaced) >= happened["promote"]
