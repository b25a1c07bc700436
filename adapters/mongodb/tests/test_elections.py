"""Proves that a change of the primary loses nothing, doubles nothing, and hides nothing."""

from __future__ import annotations

import asyncio

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from adapters.mongodb.tests.conftest import drops_refused_sockets, needs_mongod
from adapters.mongodb.tests.replica_set import ReplicaSet, stored_in
from adapters.mongodb.tests.servers import Server, new_database
from anyio import to_thread
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection

from eventport import ANY, NO_STREAM, NewEvent
from eventport.adapter import Commit, Committed, Conflict, StreamWrite, encode_events
from eventport.expectations import Expectation

from eventport_conformance.chaos import Writer, follow
from eventport_conformance.journals import Found, Journal, check
from eventport_conformance.waiting import HANG_SECONDS, START_SECONDS, no_hang, until
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


pytestmark = [needs_mongod, drops_refused_sockets]

TASKS = 4
WRITTEN = 12

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


@pytest.fixture
def journal(tmp_path: Path) -> Generator[Journal]:
    with Journal(tmp_path / "journal") as opened:
        yield opened


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
    members: ReplicaSet, driver: DriverName, fault: Fault, journal: Journal, tmp_path: Path
) -> None:
    async with new_database(members.url) as url:
        ended = False
        seen: list[Found] = []

        async def acknowledged(more: int) -> None:
            enough = journal.acknowledged + more
            await until(lambda: journal.acknowledged >= enough, "appends succeed")

        opening = MongoDBEventStore.connect(url, driver=driver, timeout=START_SECONDS)
        with no_hang(seconds=3 * HANG_SECONDS):
            async with (
                await opening as store,
                await MongoDBEventStore.connect(url, driver=driver) as reader,
                asyncio.TaskGroup() as reading,
            ):
                reading.create_task(follow(reader, seen))
                async with asyncio.TaskGroup() as writing:
                    for task in range(TASKS):
                        writer = Writer(store, f"w-{task}", journal)
                        writing.create_task(writer.write(lambda: ended))
                    await acknowledged(WRITTEN)
                    primary = await to_thread.run_sync(members.primary)
                    await to_thread.run_sync(fault, members, primary)
                    await acknowledged(WRITTEN)
                    await to_thread.run_sync(heal, primary)
                    await acknowledged(WRITTEN)
                    ended = True
                found = await to_thread.run_sync(stored_in, url)
                await until(lambda: len(seen) >= len(found), "the reader sees all events")
                await reader.aclose()
        check(found, tmp_path, seen)
        assert journal.unknown == 0


async def test_what_no_majority_has_is_not_acknowledged_though_another_of_its_batch_failed(
    members: ReplicaSet, driver: DriverName
) -> None:
    """The server says of one document that it failed, and of the other that it may get lost."""
    async with (
        new_database(members.url) as url,
        AsyncMongoClient[Any](url, w="majority", uuidRepresentation="standard") as client,
        await MongoDBEventStore.connect(url, driver=driver, timeout=90) as store,
    ):
        events = client.get_default_database()["events"]
        await store.append("s", [NewEvent("First", "first")])
        theirs = {"_id": 2, "stream": "theirs", "version": 1, "count": 1, "at": 0}
        event = {"id": uuid4(), "type": "Theirs", "data": "theirs", "metadata": {}}
        await events.insert_one({**theirs, "events": [event]})
        await store.append("s", [NewEvent("Second", "second")])
        primary = await to_thread.run_sync(members.primary)
        others = [member for member in members.members if member is not primary]
        expectations: list[tuple[str, Expectation]] = [("s", ANY), ("theirs", NO_STREAM)]
        commits = [
            Commit((StreamWrite(stream, expected, encode_events([NewEvent("Ours", stream)])),))
            for stream, expected in expectations
        ]

        async def replicate(mode: str) -> None:
            point = "stopReplProducer"
            for member in others:
                set_point = partial(members.run_on, member, "configureFailPoint", point, mode=mode)
                await to_thread.run_sync(set_point)

        await replicate("alwaysOn")
        with no_hang(seconds=3 * HANG_SECONDS):
            committing = asyncio.ensure_future(store._commit(commits))
            while not await to_thread.run_sync(has_document, primary, events, 4):  # noqa: ASYNC110  # there is no signal
                await asyncio.sleep(0.01)
            await to_thread.run_sync(members.step_down, primary)
            # It steps up with what it has, of which the document is no part.
            await to_thread.run_sync(members.step_up, others[0])
            await replicate("off")
            written, conflict = await committing
        assert isinstance(written, Committed)
        assert isinstance(conflict, Conflict)
        found = await to_thread.run_sync(stored_in, url)
        assert [event.stream for event in found] == ["s", "theirs", "s", "s"]
        assert found[-1].position == written.writes[0].positions[0]
        assert found[-1].version == written.writes[0].version


def has_document(member: Server, events: AsyncCollection[Any], position: int) -> bool:
    """Return whether one member has a document, whatever the others have."""
    with MongoClient[Any](member.url, directConnection=True) as client:
        found = client[events.database.name][events.name].find_one({"_id": position})
    return found is not None
