"""Proves that nothing is lost, doubled or missed while servers and connections fail at random.

`EVENTPORT_CHAOS_SECONDS` lets it go on for longer. The oracle is a bare driver.
"""

from __future__ import annotations

import os
import random
import secrets
import time

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.ledger import check, stored
from adapters.mongodb.tests.processes import follow, output
from adapters.mongodb.tests.replica_set import ReplicaSet
from adapters.mongodb.tests.servers import mongod, with_database, with_options
from anyio import to_thread
from pymongo import AsyncMongoClient

from eventport import NewEvent, connect

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.scripts import Start
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until


pytestmark = pytest.mark.skipif(
    mongod() is None, reason="what stands in for mongod has no replica sets of several members"
)

SECONDS = float(os.environ.get("EVENTPORT_CHAOS_SECONDS", "0"))
GUARD = SECONDS + 5 * HANG_SECONDS
WRITERS = ("a-pymongo", "b-motor", "c-pymongo")
TASKS = 3
DATABASE = "chaos"
PROGRESS = 20
"""How many events must be written between two faults."""

FAULTS = ("kill", "freeze", "step down", "drop", "silence", "nothing")


class Chaos:
    """A replica set behind proxies, and what can happen to it."""

    def __init__(self, members: ReplicaSet, proxies: Sequence[Proxy]) -> None:
        self.members = members
        self._proxies = proxies

    async def strike(self, fault: str) -> None:
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
        await self.progress()
        if fault == "kill":
            await to_thread.run_sync(primary.start)
        elif fault == "freeze":
            primary.thaw()
        await self.progress()

    async def progress(self) -> None:
        """Wait until more has been written."""
        enough = await self._count() + PROGRESS

        async def is_enough() -> bool:
            return await self._count() >= enough

        await until(is_enough, "appends succeed")

    async def _count(self) -> int:
        primary = await to_thread.run_sync(self.members.primary)
        async with AsyncMongoClient[Any](primary.url, directConnection=True) as client:
            return await client[DATABASE]["events"].estimated_document_count()


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


async def test_chaos_loses_doubles_and_hides_nothing(chaos: Chaos, start: Start) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with a failure
    chosen = random.Random(seed)
    end = time.monotonic() + SECONDS
    struck = 0
    found: list[list[Any]] = []
    with no_hang(seconds=GUARD):
        url = with_database(chaos.members.url, DATABASE)
        place = with_options(url, timeout=12)
        # What opens first creates the collection.
        reader = start("tail.py", place)
        await to_thread.run_sync(reader.ready)
        writers = [
            start(
                "write_through.py",
                with_options(place, driver=name.partition("-")[2]),
                name,
                TASKS,
            )
            for name in WRITERS
        ]
        seen: list[Any] = []

        async def read() -> None:
            seen.extend(await to_thread.run_sync(follow, reader))

        acknowledged: list[Any] = []
        unknown: list[str] = []
        async with anyio.create_task_group() as reading:
            reading.start_soon(read)
            await chaos.progress()
            struck = 0
            while struck == 0 or time.monotonic() < end:
                for fault in chosen.sample(FAULTS, len(FAULTS)):
                    await chaos.strike(fault)
                    struck += 1
            for writer in writers:
                done, doubtful = await to_thread.run_sync(output, writer)
                acknowledged += done
                unknown += doubtful
            found = await to_thread.run_sync(stored, url)
            async with connect(url) as store:
                await store.append("end", [NewEvent("Ended", None)])
    print(  # noqa: T201  # for those who pass -s
        f"{struck} faults, {len(found)} events, {len(acknowledged)} appends acknowledged, "
        f"{len(unknown)} events unknown"
    )
    check(found, acknowledged, unknown, seen)
