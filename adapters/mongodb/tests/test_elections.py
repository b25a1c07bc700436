"""Proves that a change of the primary loses nothing, doubles nothing, and hides nothing."""

from __future__ import annotations

import asyncio

from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.ledger import Ledger, check, stored
from adapters.mongodb.tests.replica_set import ReplicaSet
from adapters.mongodb.tests.servers import Server, mongod, new_database
from anyio import to_thread

from eventport import NewEvent
from eventport.protocols import EventStore

from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


pytestmark = pytest.mark.skipif(
    mongod() is None, reason="what stands in for mongod has no replica sets of several members"
)

TASKS = 4
WRITTEN = 12
GUARD = 120

Fault = Callable[[ReplicaSet, Server], None]
"""Does something to the primary."""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Generator[ReplicaSet, None, None]:
    replica_set = ReplicaSet(tmp_path_factory.mktemp("members"))
    try:
        replica_set.start()
        yield replica_set
    finally:
        replica_set.kill()


def kill(_: ReplicaSet, primary: Server) -> None:
    primary.kill()


def freeze(_: ReplicaSet, primary: Server) -> None:
    primary.freeze()


def step_down(members: ReplicaSet, primary: Server) -> None:
    members.step_down(primary)


def heal(primary: Server) -> None:
    if primary.running:
        primary.thaw()
    else:
        primary.start()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize("fault", [kill, freeze, step_down])
async def test_a_change_of_the_primary_loses_doubles_and_hides_nothing(
    members: ReplicaSet, driver: DriverName, fault: Fault
) -> None:
    async with new_database(members.url) as url:
        ledger = Ledger("a")
        ended = False
        seen: list[Any] = []

        async def follow(reader: EventStore) -> None:
            async with reader.subscribe() as subscription:
                async for event in subscription:
                    if event.type == "Ended":
                        return
                    seen.append([event.position, event.stream, event.version, event.data])

        async def acknowledged(more: int) -> None:
            enough = len(ledger.acknowledged) + more
            while len(ledger.acknowledged) < enough:  # noqa: ASYNC110  # it is only a count
                await asyncio.sleep(0.01)

        opening = MongoDBEventStore.connect(url, driver=driver, timeout=60)
        with anyio.fail_after(GUARD):
            async with (
                await opening as store,
                await MongoDBEventStore.connect(url, driver=driver) as reader,
                asyncio.TaskGroup() as reading,
            ):
                reading.create_task(follow(reader))
                async with asyncio.TaskGroup() as writing:
                    for task in range(TASKS):
                        writing.create_task(ledger.write(store, task, lambda: ended))
                    await acknowledged(WRITTEN)
                    primary = await to_thread.run_sync(members.primary)
                    await to_thread.run_sync(fault, members, primary)
                    await acknowledged(WRITTEN)
                    await to_thread.run_sync(heal, primary)
                    await acknowledged(WRITTEN)
                    ended = True
                found = await to_thread.run_sync(stored, url)
                await store.append("end", [NewEvent("Ended", None)])
        check(found, ledger.acknowledged, ledger.unknown, seen)
        assert ledger.unknown == []
