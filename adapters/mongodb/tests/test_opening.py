"""Proves which servers, clients, collections and options a store can be opened with."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys

from collections.abc import AsyncGenerator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from adapters.mongodb.tests.conftest import drops_refused_sockets
from adapters.mongodb.tests.servers import Server, new_database, with_options
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import InvalidOperation

from eventport import (
    ANY,
    Capability,
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    NewEvent,
    NotSupportedError,
    StoreUnavailableError,
    connect,
)

from eventport_conformance.waiting import until
from eventport_mongodb import MongoDBEventStore


Raw = AsyncCollection[dict[str, Any]]
SECRET = "s3cr3t-w0rd"


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_url_is_enough(url: str, driver: str) -> None:
    async with connect(with_options(url, driver=driver, collection="orders", timeout=5)) as store:
        assert (await store.append("s", [NewEvent("A", 1)])).position == 1
        assert repr(store) == f"<MongoDBEventStore: {urlsplit(url).path[1:]}.orders>"
        assert store.capabilities == set(Capability)
    async with AsyncMongoClient[Any](url) as client:
        orders = client.get_default_database()["orders"]
        assert await orders.count_documents({}) == 1
        assert set(await orders.index_information()) == {"_id_", "eventport_2", "tags"}


async def close_pymongo(client: Any) -> None:
    await client.close()


async def close_motor(client: Any) -> None:
    client.close()


@pytest.mark.parametrize(
    ("make", "close"),
    [(AsyncMongoClient, close_pymongo), (AsyncIOMotorClient, close_motor)],
    ids=["pymongo", "motor"],
)
async def test_the_callers_client_stays_open(
    url: str, make: Callable[..., Any], close: Callable[[Any], Any]
) -> None:
    client = make(url)
    try:
        async with await MongoDBEventStore.open(client) as store:
            await store.append("s", [NewEvent("A", {"n": 2**40})])
            assert (await store.read("s")).events[0].data == {"n": 2**40}
        async with await MongoDBEventStore.open(client, collection="more") as store:
            await store.append("s", [NewEvent("B", 1)])
        database = client.get_default_database()
        assert await database["events"].count_documents({}) == 1
        assert await database["more"].count_documents({}) == 1
    finally:
        await close(client)


async def test_our_own_client_is_closed(url: str) -> None:
    async with await MongoDBEventStore.connect(url) as store:
        await store.aclose()
        with pytest.raises(InvalidOperation):
            await store._mongodb.log.client.admin.command("ping")


async def test_a_collection_of_something_else_is_not_touched(url: str, raw: Raw) -> None:
    await raw.insert_one({"_id": "theirs"})
    before = await raw.index_information()
    with pytest.raises(IncompatibleStoreError, match="something else; it was not touched"):
        await MongoDBEventStore.connect(url)
    assert await raw.index_information() == before


async def test_a_newer_layout_is_refused(url: str, raw: Raw) -> None:
    await raw.create_index("stream", name="eventport_3")
    with pytest.raises(IncompatibleStoreError, match=r"eventport_3.* knows eventport_2: install"):
        await MongoDBEventStore.connect(url)


async def test_an_upgrade_may_take_longer_than_a_call(url: str, raw: Raw) -> None:
    """The server ends a call at its deadline; an index that it was building is lost then."""
    async with await MongoDBEventStore.connect(url) as store:
        await store.append("a", [NewEvent("A", 1)])
    await raw.drop_index("eventport_2")
    await raw.create_index([("stream", 1), ("version", 1)], name="eventport_1", unique=True)
    admin = raw.database.client.admin

    async def builds_for_long() -> bool:
        assert not opening.done(), opening.exception()
        found = await admin.aggregate(
            [
                {"$currentOp": {}},
                {"$match": {"command.createIndexes": raw.name, "command.$db": raw.database.name}},
                {"$match": {"microsecs_running": {"$gt": 1_500_000}}},
            ]
        )
        return bool(await found.to_list())

    point = "hangAfterStartingIndexBuild"
    await admin.command({"configureFailPoint": point, "mode": "alwaysOn"})
    try:
        opening = asyncio.create_task(MongoDBEventStore.connect(url, timeout=1))
        await until(builds_for_long, "the index takes longer than a call may")
    finally:
        await admin.command({"configureFailPoint": point, "mode": "off"})
    async with await opening as store:
        assert (await store.append("a", [NewEvent("A", 2)])).version == 2
    assert set(await raw.index_information()) == {"_id_", "tags", "eventport_2"}


async def test_many_stores_that_open_a_new_collection_create_it_once(url: str) -> None:
    stores = await asyncio.gather(*(MongoDBEventStore.connect(url) for _ in range(10)))
    for number, store in enumerate(stores):
        assert (await store.append("s", [NewEvent("A", number)])).version == number + 1
        await store.aclose()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("retryWritess=true", "(?i)option retryWritess: unknown option"),
        ("maxPoolSize=many", "(?i)maxPoolSize must be an integer"),
        ("driver=mongoengine", "driver"),
        ("timeout=0", "option timeout='0': .* > 0"),
        ("timeout=soon", "timeout"),
    ],
)
async def test_a_wrong_option_is_named(url: str, query: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        async with connect(with_options(url, **dict([query.split("=")]))):
            pass


@drops_refused_sockets
@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_server_that_is_not_there_is_reported_in_time(driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"mongodb://user:{SECRET}@127.0.0.1:{port}/shop?driver={driver}&timeout=0.5"
    with pytest.raises(StoreUnavailableError, match=r"user:\*\*\*@127.0.0.1") as caught:
        async with connect(url):
            pass
    assert_no_secret(caught.value)
    gc.collect()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_wrong_name_of_the_replica_set_is_reported(url: str, driver: str) -> None:
    wrong = with_options(url, replicaSet="nowhere", driver=driver, timeout=1)
    with pytest.raises((StoreUnavailableError, ConfigurationError), match="nowhere") as caught:
        async with connect(wrong):
            pass
    assert "replica set" in str(caught.value)


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str, None]:
    """Give the host of a server that asks for user and password."""
    folder = tmp_path_factory.mktemp("guarded")
    server = Server(folder, replicated=False)
    server.start()
    async with AsyncMongoClient[Any](server.url) as client:
        await client.admin.command("createUser", "ada", pwd=SECRET, roles=["root"])
    server.restart("--auth")
    yield server.url.removeprefix("mongodb://")
    server.kill()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_refused_user_is_reported_without_the_password(guarded: str, driver: str) -> None:
    options = f"authSource=admin&driver={driver}"
    async with connect(f"mongodb://ada:{SECRET}@{guarded}/shop?{options}") as store:
        await store.append("s", [NewEvent("A", 1)], expected=ANY)
    with pytest.raises(ConfigurationError, match="user and password were refused") as caught:
        async with connect(f"mongodb://ada:not-{SECRET}@{guarded}/shop?{options}"):
            pass
    assert_no_secret(caught.value)


def assert_no_secret(error: EventportError) -> None:
    chain: BaseException | None = error
    while chain is not None:
        assert SECRET not in str(chain)
        chain = chain.__cause__


async def test_a_server_that_stands_alone_names_the_replica_set(standalone: str) -> None:
    async with new_database(standalone) as url, connect(url) as store:
        assert Capability.SESSIONS not in store.capabilities
        assert Capability.PUSH not in store.capabilities
        async with store.session() as session:
            await session.append("a", [NewEvent("A", 1)])
            await session.append("a", [NewEvent("A", 2)])
            with pytest.raises(NotSupportedError, match="replica set"):
                await session.append("b", [NewEvent("B", 3)])
        assert (await store.read("a")).version == 2
        assert (await store.read("b")).version == 0


def test_trio_is_refused(server: str) -> None:
    async def main() -> None:
        async with connect(server):
            pass

    with pytest.raises(NotSupportedError, match="asyncio"):
        trio.run(main)


async def test_without_motor_the_remedy_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "motor.motor_asyncio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'eventport-mongodb\[motor\]'"):
        await MongoDBEventStore.connect(url, driver="motor")


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_without_create_nothing_is_created(url: str, driver: str) -> None:
    mistyped = with_options(url, driver=driver, collection="mistyped", create="false")
    with pytest.raises(ConfigurationError, match=r"mistyped is not there: check the names"):
        async with connect(mistyped):
            pass
    async with AsyncMongoClient[Any](url) as client:
        assert await client.get_default_database().list_collection_names() == []
    async with connect(with_options(url, driver=driver, collection="there")) as store:
        await store.append("s", [NewEvent("A", 1)])
    async with connect(url, driver=driver, collection="there", create=False) as store:
        assert (await store.read("s")).exists


async def test_commands_that_read_create_nothing(url: str) -> None:
    for command in (["read", "s"], ["export"], ["tail"]):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "eventport",
            *command,
            "--store",
            url,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert (process.returncode, b"is not there: check the names" in said) == (1, True), said
    async with AsyncMongoClient[Any](url) as client:
        assert await client.get_default_database().list_collection_names() == []
