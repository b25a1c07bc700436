"""Proves that no wait on a server is without end, and that impatient callers spoil nothing."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from adapters.mongodb.tests.conftest import FAILING
from adapters.mongodb.tests.servers import at_port, with_options
from pymongo.asynchronous.collection import AsyncCollection

from eventport import NewEvent, StoreUnavailableError

from eventport_conformance.chaos import seeded_random
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import no_hang
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName, make_client


Raw = AsyncCollection[dict[str, Any]]


@pytest.fixture
async def far_store(
    url: str, proxy: Proxy, driver: DriverName
) -> AsyncGenerator[MongoDBEventStore, None]:
    """Give a store whose connections go through the proxy, and may be silenced there."""
    place = at_port(url, proxy.port)
    opening = MongoDBEventStore.connect(place, driver=driver, timeout=9)
    store = await opening
    await store.append("s", [NewEvent("E", number) for number in range(3)])
    yield store
    with no_hang():
        await store.aclose()


async def fall_silent(proxy: Proxy) -> None:
    """Pass nothing on any more on the connections that there are; new ones work."""
    proxy.silence()
    await proxy.heal()


CALLS: dict[str, Callable[[MongoDBEventStore], Awaitable[Any]]] = {
    "read": lambda store: store.read("s"),
    "read part": lambda store: store.read("s", max_count=1, backwards=True),
    "read all": lambda store: store.read_all(),
    "append": lambda store: store.append("s", [NewEvent("E", 4)], expected=3),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_connection_that_falls_silent_is_a_lost_one(
    far_store: MongoDBEventStore, proxy: Proxy, call: str
) -> None:
    await fall_silent(proxy)
    with no_hang():
        await CALLS[call](far_store)
        assert (await far_store.read("s")).version == (4 if call == "append" else 3)


async def test_a_session_on_a_connection_that_falls_silent_is_committed_once(
    far_store: MongoDBEventStore, proxy: Proxy, raw: Raw
) -> None:
    async with far_store.session() as session:
        await session.append("a", [NewEvent("A", 1)])
        await session.append("b", [NewEvent("B", 2)])
        await fall_silent(proxy)
        with no_hang():
            await far_store.read("s")
        await fall_silent(proxy)
    assert session.position == 5
    assert await raw.count_documents({}) == 3


async def test_a_subscription_on_a_connection_that_falls_silent_goes_on(
    far_store: MongoDBEventStore, store: MongoDBEventStore, proxy: Proxy
) -> None:
    with no_hang():
        async with far_store.subscribe(after=3) as subscription:
            await store.append("s", [NewEvent("E", 4)])
            assert (await anext(subscription)).data == 4
            for number in (5, 6):
                await fall_silent(proxy)
                await store.append("s", [NewEvent("E", number)])
                assert (await anext(subscription)).data == number


async def test_a_store_on_a_connection_that_falls_silent_can_be_closed(
    far_store: MongoDBEventStore, proxy: Proxy
) -> None:
    async with far_store.subscribe() as subscription:
        await anext(subscription)
        await fall_silent(proxy)
        impatient = asyncio.ensure_future(far_store.read("s"))
        await asyncio.sleep(0.01)
        impatient.cancel()
    with no_hang():
        await far_store.aclose()


async def test_opening_on_a_server_that_says_nothing_ends(
    url: str, proxy: Proxy, driver: DriverName
) -> None:
    proxy.silence()
    with no_hang(), pytest.raises(StoreUnavailableError):
        await MongoDBEventStore.connect(at_port(url, proxy.port), driver=driver, timeout=1)


async def in_session(store: MongoDBEventStore) -> None:
    async with store.session() as session:
        await session.read("s", max_count=1)
        await session.append("a", [NewEvent("A", 1)])
        await session.append("b", [NewEvent("B", 2)])


async def first_of_subscription(store: MongoDBEventStore) -> None:
    async with store.subscribe() as subscription:
        await anext(subscription)


READS: list[Callable[[MongoDBEventStore], Awaitable[Any]]] = [
    lambda store: store.read("s"),
    lambda store: store.read("s", max_count=1, backwards=True),
    lambda store: store.read_all(max_count=700),
    lambda store: anext(aiter(store.iterate_all())),
    in_session,
    first_of_subscription,
    lambda store: store.append("other", [NewEvent("E", None)]),
]


async def test_impatient_callers_spoil_nothing_for_others(url: str, driver: DriverName) -> None:
    chosen = seeded_random()
    with no_hang():
        async with await MongoDBEventStore.connect(url, driver=driver) as store:
            await store.append("s", [NewEvent("E", "x" * 500) for _ in range(1000)])
            for number in range(100):
                calls: list[asyncio.Task[Any]] = []
                for _ in range(chosen.choice((1, 2, 5))):
                    made = asyncio.ensure_future(chosen.choice(READS)(store))
                    assert isinstance(made, asyncio.Task)
                    calls.append(made)
                    for _ in range(chosen.choice((1, 2, 5))):
                        await asyncio.sleep(0)
                    if chosen.random() < 0.5:
                        await asyncio.sleep(chosen.uniform(0, 0.005))
                    made.cancel()
                await asyncio.wait(calls)
                for call in calls:
                    assert call.cancelled() or call.exception() is None
                if number % 5 == 4:
                    assert (await store.read("s", max_count=1)).version == 1000
                    await store.append("t", [NewEvent("E", number)])
            assert (await store.read("t")).version == 20


async def test_a_caller_of_a_silent_server_can_leave_at_once(
    far_store: MongoDBEventStore, proxy: Proxy
) -> None:
    await fall_silent(proxy)
    reading = asyncio.ensure_future(far_store.read("s"))
    await asyncio.sleep(0.05)
    reading.cancel()
    with no_hang():
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert (await far_store.read("s")).version == 3


async def test_a_caller_that_waits_for_a_transaction_of_others_can_leave(
    url: str, raw: Raw, driver: DriverName
) -> None:
    opening = MongoDBEventStore.connect(url, driver=driver, timeout=80_000)
    async with await opening as store, raw.database.client.start_session() as theirs:
        await store.append("s", [NewEvent("First", 0)])
        await theirs.start_transaction()
        document = {"_id": 2, "stream": "b", "version": 1, "count": 1, "at": 0, "events": []}
        await raw.insert_one(document, session=theirs)
        with no_hang(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await in_session(store)
        await theirs.abort_transaction()
        with no_hang():
            assert (await store.append("s", [NewEvent("Next", 1)])).position == 2
    assert await raw.count_documents({"stream": "a"}) == 0


async def test_an_append_for_which_no_server_is_found_says_that_nothing_was_written(
    url: str, proxy: Proxy, driver: DriverName
) -> None:
    opening = MongoDBEventStore.connect(at_port(url, proxy.port), driver=driver, timeout=3)
    async with await opening as store:
        await store.append("s", [NewEvent("First", 0)])
        await proxy.refuse()
        proxy.drop()
        await store_notices(store)
        with no_hang(), pytest.raises(StoreUnavailableError, match="nothing was written"):
            await store.append("s", [NewEvent("Next", 1)])
        await proxy.heal()


async def store_notices(store: MongoDBEventStore) -> None:
    """Return when the driver knows that the server is gone."""
    with no_hang(), pytest.raises(StoreUnavailableError):
        await store.read("s")


STATES: list[dict[str, Any]] = [
    {"errorCode": 10107},  # not primary
    {"errorCode": 13436},  # recovering
    {"errorCode": 11600},  # shutting down
    {"errorCode": 11602},  # stepping down
    {"errorCode": 134},  # no majority known yet
    {"closeConnection": True},
]


@pytest.mark.parametrize("state", STATES, ids=str)
async def test_a_read_waits_for_a_server_that_is_not_ready(
    url: str, fail: Any, driver: DriverName, state: dict[str, Any]
) -> None:
    place = with_options(
        url, appName=FAILING, serverMonitoringMode="poll", heartbeatFrequencyMS=500
    )
    async with await MongoDBEventStore.connect(place, driver=driver) as store:
        await store.append("s", [NewEvent("E", 1)])
        await fail(["find"], 5, **state)
        with no_hang():
            assert (await store.read("s")).version == 1


def test_a_frozen_server_is_noticed_soon_unless_the_url_says_otherwise() -> None:
    async def options(url: str) -> tuple[float | None, int, int]:
        async with make_client(url, "pymongo", 30.0) as client:
            given = client.options
            return (
                given.pool_options.connect_timeout,
                given.heartbeat_frequency,
                given.server_selection_timeout,
            )

    assert asyncio.run(options("mongodb://localhost")) == (3.0, 2.0, 30.0)
    own = "connectTimeoutMS=7000&heartbeatfrequencyms=8000&serverSelectionTimeoutMS=9000"
    assert asyncio.run(options(f"mongodb://localhost/?{own}")) == (7.0, 8.0, 9.0)
