"""Proves that a reader misses nothing of what many processes write, and that they set up once."""

from __future__ import annotations

import asyncio
import os

from itertools import pairwise

import asyncpg

from adapters.postgres.tests.processes import run_together, start
from anyio import to_thread

from eventport import RecordedEvent

from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_postgres import PostgresEventStore
from eventport_postgres.schema import SCHEMA_VERSION


PROCESSES, TASKS = 6, 8
# The full form, of 50,000, takes half a minute.
EVENTS = int(os.environ.get("EVENTPORT_TEST_EVENTS", "6000"))


async def test_a_tailing_reader_misses_repeats_and_reorders_nothing(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    each = EVENTS // PROCESSES // TASKS * TASKS
    processes = [
        start("write_shared.py", url, schema, name, TASKS, each) for name in range(PROCESSES)
    ]
    seen: list[RecordedEvent] = []
    read: list[RecordedEvent] = []

    async def tail() -> None:
        async with store.subscribe() as subscription:
            async for event in subscription:
                seen.append(event)
                if len(seen) == each * PROCESSES:
                    return

    async def poll() -> None:
        position = 0
        while len(read) < each * PROCESSES:
            result = await store.read_all(after=position)
            position = result.position
            read.extend(result.events)

    async with no_hang(seconds=10 * HANG_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(tail())
        group.create_task(poll())
        printed = await to_thread.run_sync(run_together, processes)

    rows = await admin.fetch(
        f'SELECT position, stream, version FROM "{schema}".events ORDER BY position'
    )
    stored = [tuple(row) for row in rows]
    assert [(event.position, event.stream, event.version) for event in seen] == stored
    assert seen == read
    versions: dict[str, int] = {}
    appends: dict[str, list[RecordedEvent]] = {}
    for event in seen:
        assert event.version == versions.get(event.stream, 0) + 1
        versions[event.stream] = event.version
        appends.setdefault(event.data[0], []).append(event)
    assert len(appends) == sum(map(int, printed))
    for events in appends.values():
        assert [event.data[1] for event in events] == list(range(events[0].data[2]))
        assert all(a.version + 1 == b.version for a, b in pairwise(events))


async def test_opening_a_store_waits_for_its_set_up(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async def open_store() -> PostgresEventStore:
        return await PostgresEventStore.connect(url, schema=schema)

    async with no_hang(), asyncio.TaskGroup() as group, admin.transaction():
        await admin.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"eventport schema {schema}"
        )
        opening = group.create_task(open_store())
        await asyncio.sleep(0.3)
        assert not opening.done()
    await opening.result().aclose()


async def test_twenty_stores_that_open_at_once_set_up_once(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    processes = [start("open_store.py", url, schema, f"s-{number}") for number in range(20)]
    assert await to_thread.run_sync(run_together, processes) == ["1\n"] * 20
    assert await admin.fetchval(f'SELECT count(*) FROM "{schema}".migrations') == SCHEMA_VERSION
    assert await admin.fetchval(f'SELECT count(DISTINCT stream) FROM "{schema}".events') == 20
