"""Proves that no fault on the way loses, doubles or tears a commit, on either driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.conftest import FAILING
from adapters.mongodb.tests.servers import at_port, with_options
from pymongo.asynchronous.collection import AsyncCollection

from eventport import NO_STREAM, ConcurrencyError, NewEvent, StoreUnavailableError
from eventport.expectations import Expectation

from eventport_conformance.proxy import Loss, Proxy
from eventport_conformance.waiting import no_hang
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


Raw = AsyncCollection[dict[str, Any]]


@pytest.fixture(params=["true", "false"], ids=["driver retries", "driver does not retry"])
async def dropping_store(
    request: pytest.FixtureRequest, url: str, proxy: Proxy, driver: DriverName
) -> AsyncGenerator[MongoDBEventStore, None]:
    """Give a store whose connections go through the proxy."""
    place = with_options(at_port(url, proxy.port), retryWrites=request.param)
    async with await MongoDBEventStore.connect(place, driver=driver) as opened:
        yield opened


async def check(raw: Raw, expected: list[tuple[str, int, list[Any]]]) -> None:
    """Look at all that is there: these documents, in this order, and no gap."""
    found = await raw.find().sort("_id").to_list()
    assert [
        (one["stream"], one["version"], [event["data"] for event in one["events"]]) for one in found
    ] == expected
    position = 1
    for one in found:
        assert one["_id"] == position
        position += one["count"]


@pytest.mark.parametrize(
    ("side", "times", "expected"),
    [("request", 1, "any"), ("request", 3, 1), ("answer", 1, "any"), ("answer", 3, 1)],
)
async def test_an_append_whose_connection_drops_takes_place_once(
    dropping_store: MongoDBEventStore,
    proxy: Proxy,
    raw: Raw,
    side: Loss,
    times: int,
    expected: Expectation,
) -> None:
    await dropping_store.append("s", [NewEvent("First", 1)], expected=NO_STREAM)
    proxy.lose(b"insert\0", side, times=times)
    with no_hang():
        result = await dropping_store.append(
            "s", [NewEvent("A", 2), NewEvent("B", 3)], expected=expected
        )
    assert (result.version, result.position, result.deduplicated) == (3, 3, False)
    assert 1 <= proxy.cuts <= times
    await proxy.heal()
    await dropping_store.append("s", [NewEvent("Last", 4)], expected=3)
    await check(raw, [("s", 1, [1]), ("s", 2, [2, 3]), ("s", 4, [4])])


@pytest.mark.parametrize("side", ["request", "answer"])
async def test_a_batch_whose_connection_drops_takes_place_once(
    dropping_store: MongoDBEventStore, proxy: Proxy, raw: Raw, side: Loss
) -> None:
    await dropping_store.append("s", [NewEvent("First", -1)])
    proxy.lose(b"insert\0", side, times=2)
    with no_hang():
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(dropping_store.append, "s", [NewEvent("One", number)])
    assert 1 <= proxy.cuts <= 2
    await proxy.heal()
    events = (await dropping_store.read("s")).events
    assert sorted(event.data for event in events) == list(range(-1, 30))
    assert [event.position for event in events] == list(range(1, 32))


@pytest.mark.parametrize(
    ("command", "side", "times"),
    [
        ("insert", "request", 3),
        ("insert", "answer", 1),
        ("commitTransaction", "request", 3),
        ("commitTransaction", "answer", 3),
    ],
)
async def test_a_session_whose_connection_drops_is_committed_once(
    dropping_store: MongoDBEventStore, proxy: Proxy, raw: Raw, command: str, side: Loss, times: int
) -> None:
    proxy.lose(f"{command}\0".encode(), side, times=times)
    with no_hang():
        async with dropping_store.session() as session:
            await session.append("a", [NewEvent("A", 1)])
            await session.append("b", [NewEvent("B", 2)])
    assert session.position == 2
    assert 1 <= proxy.cuts <= times
    await proxy.heal()
    await dropping_store.append("a", [NewEvent("Last", 3)], expected=1)
    await check(raw, [("a", 1, [1]), ("b", 1, [2]), ("a", 2, [3])])


async def test_what_cannot_be_learned_in_time_is_said_and_can_be_tried_again(
    url: str, proxy: Proxy, raw: Raw, driver: DriverName
) -> None:
    place = with_options(at_port(url, proxy.port), retryWrites="false")
    events = [NewEvent("A", 1), NewEvent("B", 2)]
    opening = MongoDBEventStore.connect(place, driver=driver, timeout=2)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await opening)
        proxy.lose(b"insert\0", "answer", then_refuse=True)
        with no_hang(), pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
            await store.append("s", events, expected=NO_STREAM)
        await proxy.heal()
        result = await store.append("s", events, expected=NO_STREAM)
        assert (result.version, result.position) == (2, 2)
        assert result.deduplicated
    await check(raw, [("s", 1, [1, 2])])


@pytest.fixture
async def failing_store(url: str) -> AsyncGenerator[MongoDBEventStore, None]:
    """Give a store that failpoints are for."""
    async with await MongoDBEventStore.connect(with_options(url, appName=FAILING)) as opened:
        yield opened


FAULTS: list[dict[str, Any]] = [
    {"closeConnection": True},
    {"errorCode": 91, "errorLabels": ["RetryableWriteError"]},  # it shuts down
    {"errorCode": 189, "errorLabels": ["RetryableWriteError"]},  # it is no longer primary
    {"errorCode": 10107},  # it is not primary, says one without labels
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_an_insert_that_the_server_fails_at_takes_place_once(
    url: str, raw: Raw, fail: Any, fault: dict[str, Any]
) -> None:
    # By default the driver waits for the news of another primary, which never come here.
    asking = with_options(
        url, appName=FAILING, serverMonitoringMode="poll", heartbeatFrequencyMS=500
    )
    async with await MongoDBEventStore.connect(asking) as store:
        await store.append("s", [NewEvent("First", 1)])
        await fail(["insert"], 3, **fault)
        with no_hang():
            assert (await store.append("s", [NewEvent("Next", 2)], expected=1)).version == 2
    await check(raw, [("s", 1, [1]), ("s", 2, [2])])


ABORTED = {"errorCode": 251, "errorLabels": ["TransientTransactionError"]}
WRITE_CONFLICT = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
UNKNOWN = {"errorCode": 64, "errorLabels": ["UnknownTransactionCommitResult"]}


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("insert", WRITE_CONFLICT),
        ("insert", ABORTED),
        ("insert", {"closeConnection": True}),
        ("commitTransaction", ABORTED),
        ("commitTransaction", WRITE_CONFLICT),
        ("commitTransaction", UNKNOWN),
        ("commitTransaction", {"closeConnection": True}),
    ],
    ids=str,
)
async def test_a_transaction_that_the_server_fails_at_is_committed_once(
    failing_store: MongoDBEventStore, raw: Raw, fail: Any, command: str, fault: dict[str, Any]
) -> None:
    await failing_store.append("a", [NewEvent("First", 0)])
    await fail([command], 2, **fault)
    with no_hang():
        async with failing_store.session() as session:
            await session.append("a", [NewEvent("A", 1)])
            await session.append("b", [NewEvent("B", 2)])
    await check(raw, [("a", 1, [0]), ("a", 2, [1]), ("b", 1, [2])])


async def test_a_transaction_of_others_in_the_middle_is_waited_for(
    store: MongoDBEventStore, raw: Raw
) -> None:
    await store.append("a", [NewEvent("First", 0)])
    client = raw.database.client
    async with client.start_session() as theirs:
        await theirs.start_transaction()
        other = {"_id": 2, "stream": "b", "version": 1, "count": 1, "at": 0, "events": []}
        await raw.insert_one(other, session=theirs)

        async def ours() -> None:
            async with store.session() as session:
                await session.append("a", [NewEvent("A", 1)])
                await session.append("b", [NewEvent("B", 2)], expected=NO_STREAM)

        outcome: list[Exception] = []
        with no_hang():
            async with anyio.create_task_group() as tasks:

                async def attempt() -> None:
                    try:
                        await ours()
                    except ConcurrencyError as exc:
                        outcome.append(exc)

                tasks.start_soon(attempt)
                await anyio.sleep(0.3)  # a store that does not wait would have written by now
                assert await raw.count_documents({}) == 1
                await theirs.commit_transaction()
        (conflict,) = outcome
        assert str(conflict) == "stream 'b': expected 0, but it is at version 1"
    assert await raw.count_documents({}) == 2


async def test_a_server_that_refuses_for_good_is_reported_and_nothing_is_written(
    failing_store: MongoDBEventStore, raw: Raw, fail: Any
) -> None:
    await fail(["insert"], 1, errorCode=14031, errmsg="the disk is full")
    with no_hang(), pytest.raises(StoreUnavailableError):
        await failing_store.append("s", [NewEvent("A", 1)])
    assert (await failing_store.append("s", [NewEvent("B", 2)])).position == 1
    await check(raw, [("s", 1, [2])])
