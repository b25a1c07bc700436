"""Proves that nothing is lost, doubled or missed while servers and connections fail at random.

`EVENTPORT_CHAOS_SECONDS` lets it go on for longer. The oracle is a bare driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from adapters.mongodb.tests.conftest import drops_refused_sockets, needs_mongod
from adapters.mongodb.tests.replica_set import ReplicaSet, stored_in
from adapters.mongodb.tests.servers import with_database, with_options
from anyio import to_thread

from eventport import connect
from eventport.adapter import run_shielded

from eventport_conformance.chaos import Writers, chaos_seconds, follow, seeded_random, until_seen
from eventport_conformance.journals import Found, check
from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang


pytestmark = [needs_mongod, drops_refused_sockets]

SECONDS = chaos_seconds(0)
GUARD = SECONDS + 5 * HANG_SECONDS
DRIVERS = ("pymongo", "motor", "pymongo")
DATABASE = "chaos"
FAULTS = ("kill", "freeze", "step down", "drop", "silence", "nothing")


class Chaos:
    """A replica set behind proxies, and what can happen to it."""

    def __init__(self, members: ReplicaSet, proxies: Sequence[Proxy]) -> None:
        self.members = members
        self._proxies = proxies

    async def strike(self, fault: str, writers: Writers) -> None:
        """Let something fail, wait until work goes on, and mend it."""
        primary = await to_thread.run_sync(self.members.primary)
        match fault:
            case "kill":
                await to_thread.run_sync(primary.kill)
            case "freeze":
                primary.freeze()
            case "step down":
                await to_thread.run_sync(self.members.step_down, primary)
            case "drop":
                for proxy in self._proxies:
                    proxy.drop()
            case "silence":
                for proxy in self._proxies:
                    proxy.silence()
                    await proxy.heal()
            case _:
                pass
        await writers.progress()
        if fault == "kill":
            await to_thread.run_sync(primary.start)
        elif fault == "freeze":
            primary.thaw()
        await writers.progress()


@pytest.fixture
async def chaos(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Chaos, None]:
    members = ReplicaSet(tmp_path_factory.mktemp("chaos"))
    async with AsyncExitStack() as stack:
        stack.callback(members.kill)
        proxies = [
            await stack.enter_async_context(open_proxy(("127.0.0.1", member.port)))
            for member in members.members
        ]
        # The members talk to each other through the proxies, too, and have the same faults.
        addresses = [f"127.0.0.1:{proxy.port}" for proxy in proxies]
        await to_thread.run_sync(members.start, addresses)
        yield Chaos(members, proxies)


async def test_chaos_loses_doubles_and_hides_nothing(chaos: Chaos, tmp_path: Path) -> None:
    chosen = seeded_random()
    url = with_database(chaos.members.url, DATABASE)
    place = with_options(url, timeout=12)
    writers = Writers([with_options(place, driver=driver) for driver in DRIVERS], tmp_path)
    seen: list[Found] = []
    found: list[Found] = []
    struck = 0
    try:
        with no_hang(seconds=GUARD):
            async with connect(place) as store, anyio.create_task_group() as reading:
                reading.start_soon(follow, store, seen)
                for _ in DRIVERS:
                    writers.start()
                await writers.progress()
                end = anyio.current_time() + SECONDS
                while struck == 0 or anyio.current_time() < end:
                    for fault in chosen.sample(FAULTS, len(FAULTS)):
                        await chaos.strike(fault, writers)
                        struck += 1
                await writers.stop()
                found = await to_thread.run_sync(stored_in, url)
                await until_seen(len(found), seen)
                await store.aclose()
    except BaseException:
        print(f"{struck} faults, {len(seen)} events seen")  # noqa: T201  # with a failure
        print(await run_shielded(to_thread.run_sync, chaos.members.describe))  # noqa: T201  # as above
        raise
    finally:
        writers.end()
    counted = check(found, tmp_path, seen)
    print(f"{struck} faults, {counted}")  # noqa: T201  # for those who pass -s
