"""Proves that only an answer, or what a majority has for good, acknowledges an append."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from adapters.mongodb.tests.conftest import FAILING, needs_mongod
from adapters.mongodb.tests.servers import Server, at_port, new_database, with_options
from anyio import to_thread
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from eventport import NO_STREAM, ConcurrencyError, NewEvent, StoreUnavailableError

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.waiting import no_hang
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


Raw = AsyncCollection[dict[str, Any]]


@pytest.fixture
async def far_store(
    url: str, proxy: Proxy, driver: DriverName
) -> AsyncGenerator[MongoDBEventStore, None]:
    """Give a store that failpoints are for, and whose connections go through the proxy."""
    place = with_options(at_port(url, proxy.port), appName=FAILING, retryWrites="false")
    async with await MongoDBEventStore.connect(place, driver=driver) as opened:
        await opened.append("s", [NewEvent("First", 0)])
        yield opened


async def data_in(raw: Raw) -> list[Any]:
    found = await raw.find().sort("_id").to_list()
    return [event["data"] for one in found for event in one["events"]]


async def theirs(raw: Raw, position: int) -> None:
    """Let somebody else begin a stream that the store has not heard of."""
    event = {"id": uuid4(), "type": "Theirs", "data": "theirs", "metadata": {}}
    where = {"_id": position, "stream": "theirs", "version": 1, "count": 1, "at": Int64(1)}
    await raw.insert_one({**where, "events": [event]})


# What the server says to the look for a lost answer. None of it is about the append.
ERRORS = [13, 50, 89, 96, 11601]


@pytest.mark.parametrize("code", ERRORS)
async def test_an_error_of_the_look_for_a_lost_answer_is_no_answer(
    far_store: MongoDBEventStore, proxy: Proxy, raw: Raw, fail: Any, code: int
) -> None:
    proxy.lose(b"insert\0", "answer")
    await fail(["find"], 2, errorCode=code)
    with no_hang():
        result = await far_store.append("s", [NewEvent("Ours", 1)])
    assert (result.version, result.position, result.deduplicated) == (2, 2, False)
    assert await data_in(raw) == [0, 1]


async def test_an_error_of_the_look_doubles_nothing_of_a_batch(
    far_store: MongoDBEventStore, raw: Raw, fail: Any
) -> None:
    await theirs(raw, 2)
    await far_store.append("s", [NewEvent("Ours", "before")])
    await fail(["find"], 1, errorCode=13)
    # While the first is on its way, the others wait for it, and share an insert then, in which one
    # succeeds and the other does not.
    gate = asyncio.ensure_future(
        far_store.append("gate", [NewEvent("Ours", "gate")], expected=NO_STREAM)
    )
    await asyncio.sleep(0)
    written = asyncio.ensure_future(far_store.append("s", [NewEvent("Ours", 1)]))
    refused = asyncio.ensure_future(
        far_store.append("theirs", [NewEvent("Ours", 2)], expected=NO_STREAM)
    )
    with no_hang():
        await asyncio.wait([gate, written, refused])
    assert (await written).version == 3
    with pytest.raises(ConcurrencyError):
        await refused
    assert await data_in(raw) == [0, "theirs", "before", "gate", 1]


async def test_an_insert_that_somebody_ends_on_the_server_takes_place_once(
    far_store: MongoDBEventStore, raw: Raw, fail: Any
) -> None:
    await fail(["insert"], 2, errorCode=11601)
    with no_hang():
        await far_store.append("s", [NewEvent("Ours", 1)])
    assert await data_in(raw) == [0, 1]


async def test_a_missing_confirmation_of_the_majority_is_no_answer(
    far_store: MongoDBEventStore, raw: Raw, fail: Any
) -> None:
    await fail(["insert"], 2, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
    with no_hang():
        await far_store.append("s", [NewEvent("Ours", 1)])
    assert await data_in(raw) == [0, 1]


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Server, None]:
    server = Server(tmp_path_factory.mktemp("alone"), replicated=False)
    await to_thread.run_sync(server.start)
    yield server
    server.kill()


@needs_mongod
@pytest.mark.parametrize("way", ["lost answer", "retry"])
async def test_what_is_found_is_acknowledged_when_it_is_in_the_journal(
    alone: Server, driver: DriverName, way: str
) -> None:
    """On a server that stands alone, what can be read may not be in the journal yet."""
    event = NewEvent("Ours", 1)
    async with (
        new_database(alone.url) as url,
        open_proxy(("127.0.0.1", alone.port)) as proxy,
        await MongoDBEventStore.connect(at_port(url, proxy.port), driver=driver) as store,
        await MongoDBEventStore.connect(url) as other,
        AsyncMongoClient[Any](alone.url) as client,
    ):
        await store.append("s", [NewEvent("First", 0)])
        events = client[url.rpartition("/")[2]]["events"]

        async def hold_back(mode: str) -> None:
            point = "pauseJournalFlusherBeforeFlush"
            await client.admin.command({"configureFailPoint": point, "mode": mode})

        await hold_back("alwaysOn")
        try:
            waiting = asyncio.ensure_future(store.append("s", [event], expected=1))
            with no_hang():
                while await events.count_documents({}) < 2:  # noqa: ASYNC110  # there is no signal
                    await asyncio.sleep(0.01)
            if way == "retry":
                waiting = asyncio.ensure_future(other.append("s", [event], expected=1))
            else:
                proxy.drop()
            # It has been looked for by then: on the broken code this took some milliseconds.
            await asyncio.wait([waiting], timeout=1.5)
            assert not waiting.done()
        finally:
            await hold_back("off")
        with no_hang():
            result = await waiting
        assert (result.version, result.deduplicated) == (2, way == "retry")


async def test_a_give_up_says_why_in_plain_words(url: str, raw: Raw, driver: DriverName) -> None:
    opening = MongoDBEventStore.connect(url, driver=driver, timeout=3)
    client = raw.database.client
    async with await opening as store, client.start_session() as session:
        await store.append("s", [NewEvent("First", 0)])
        await session.start_transaction()
        document = {"_id": 2, "stream": "b", "version": 1, "count": 1, "at": 0, "events": []}
        await raw.insert_one(document, session=session)
        with no_hang(), pytest.raises(StoreUnavailableError) as caught:  # noqa: PT012  # the end of the block raises
            async with store.session() as ours:
                await ours.append("a", [NewEvent("A", 1)])
                await ours.append("b", [NewEvent("B", 2)])
        await session.abort_transaction()
        with no_hang():
            await store.append("s", [NewEvent("Next", 1)], expected=1)
    text = str(caught.value)
    assert "another client's transaction holds the position" in text
    assert "no success within 3 s: nothing was written" in text
    assert "yielding" not in text
    assert "WiredTiger" not in text


async def test_times_never_go_back_within_a_stream(
    store: MongoDBEventStore, raw: Raw, url: str
) -> None:
    ahead = 4_000_000_000_000_000  # as by a clock that is wrong by decades
    await store.append("s", [NewEvent("First", 0)])
    await raw.update_one({"_id": 1}, {"$set": {"at": Int64(ahead)}})
    async with await MongoDBEventStore.connect(url) as other:
        await asyncio.gather(*(other.append("s", [NewEvent("Next", n)]) for n in range(5)))
        async with other.session() as session:
            await session.append("t", [NewEvent("A", 1)])
            await session.append("s", [NewEvent("B", 2)])
        await other.append("t", [NewEvent("C", 3)])
        await other.append("u", [NewEvent("D", 4)])
        for stream in ("s", "t"):
            times = [event.recorded_at for event in (await other.read(stream)).events]
            assert times == sorted(times)
        assert (await other.read("u")).events[0].recorded_at.year < 2096
        assert (await other.read("s")).events[-1].recorded_at.timestamp() * 1e6 == ahead


async def test_a_store_has_an_id_that_restarts_and_copies_keep(url: str, tmp_path: Path) -> None:
    opened = await asyncio.gather(*(MongoDBEventStore.connect(url) for _ in range(5)))
    ids = {store.store_id for store in opened}
    for store in opened:
        await store.aclose()
    assert len(ids) == 1
    async with (
        await MongoDBEventStore.connect(url) as again,
        await MongoDBEventStore.connect(url, collection="more") as more,
        AsyncMongoClient[Any](url) as client,
    ):
        assert {again.store_id} == ids
        assert more.store_id != again.store_id
        database = client.get_default_database()
        for name in ("events", "events.meta"):  # what a backup restores somewhere else
            copied = await database[name].find().to_list()
            if copied:
                await database[f"copy{name.removeprefix('events')}"].insert_many(copied)
        keys = [("stream", 1), ("version", 1)]
        await database["copy"].create_index(keys, name="eventport_1", unique=True)
    async with await MongoDBEventStore.connect(url, collection="copy") as copy:
        assert {copy.store_id} == ids
