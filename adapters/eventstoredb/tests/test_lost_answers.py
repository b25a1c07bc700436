"""An append whose answer is lost is there once in the end, whatever went wrong on the way."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from adapters.eventstoredb.tests.double.database import Proposed
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double, Fault, Kind
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import (
    ANY,
    STREAM_EXISTS,
    Expectation,
    HistoryReplacedError,
    NewEvent,
    RecordedEvent,
    StoreUnavailableError,
)

from eventport_conformance.waiting import no_hang, until
from eventport_eventstoredb import EventStoreDBEventStore


KINDS: tuple[Kind, ...] = ("drop-before", "drop-after", "drop-late", "slow")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 2])
async def test_an_append_is_written_once(
    double: Double, store: EventStoreDBEventStore, kind: Kind, times: int, expected: Expectation
) -> None:
    if kind != "drop-late":  # only the server itself can keep off what it hears too late
        double.remembered_ids = 0
        double.reset()
        double.attend()
    await store.append("a", [NewEvent("First", n) for n in range(2)])
    double.faults.append(Fault(kind, "BatchAppend", times))
    async with no_hang():
        result = await store.append(
            "a", [NewEvent("Second", n) for n in range(3)], expected=expected
        )
    assert (result.version, result.created, result.deduplicated) == (5, False, False)
    await until(lambda: not double.late, "what comes late has come")
    events = (await store.read("a")).events
    assert [event.data for event in events] == [0, 1, 0, 1, 2]
    assert result.position == events[-1].position
    assert (await store.append("a", [NewEvent("Third", 3)], expected=5)).version == 6


@pytest.mark.parametrize("kind", KINDS)
async def test_a_new_stream_is_created_once(
    double: Double, store: EventStoreDBEventStore, kind: Kind
) -> None:
    double.faults.append(Fault(kind, "BatchAppend"))
    result = await store.append("a", [NewEvent("First", 1)])
    assert (result.version, result.created, result.deduplicated) == (1, True, False)
    assert len((await store.read_all()).events) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_others_may_write_meanwhile(
    double: Double, store: EventStoreDBEventStore, kind: Kind
) -> None:
    double.faults.append(Fault(kind, "BatchAppend"))
    async with await EventStoreDBEventStore.connect(double.uri) as other:

        async def write() -> None:
            for number in range(10):
                await other.append("a", [NewEvent("Other", number)])
                await asyncio.sleep(0.02)

        async with no_hang(), asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(store.append("a", [NewEvent("Mine", 1), NewEvent("Mine", 2)]))
        await until(lambda: not double.late, "what comes late has come")
        mine = [e for e in (await store.read("a")).events if e.type == "Mine"]
        assert [event.data for event in mine] == [1, 2]
        assert mine[1].version == mine[0].version + 1


async def test_a_batch_is_not_doubled_by_the_trouble_of_one_member(
    double: Double, store: EventStoreDBEventStore
) -> None:
    double.remembered_ids = 0
    double.reset()
    double.attend()
    double.database.max_append_size = 1000
    double.faults.append(Fault("drop-after", "BatchAppend", 3))
    async with no_hang():
        results = await asyncio.gather(
            *(
                store.append(f"s{number % 4}", [NewEvent("A", "x" * (2000 * (number == 7)))])
                for number in range(20)
            ),
            return_exceptions=True,
        )
    assert sum(isinstance(one, Exception) for one in results) == 1
    assert len((await store.read_all()).events) == 19


async def test_an_error_of_the_shared_call_is_no_answer_to_the_appends_that_it_carries(
    double: Double, store: EventStoreDBEventStore
) -> None:
    await store.append("first", [NewEvent("A", 0)])
    double.lag = 0.3  # they are written by then, and not acknowledged
    written = [asyncio.create_task(store.append(f"s{n}", [NewEvent("A", n)])) for n in range(5)]
    while double.database.stream("s4").head < 0:  # noqa: ASYNC110  # the double has no event for it
        await asyncio.sleep(0.005)
    double.faults.append(Fault("denied", "BatchAppend"))
    denied = asyncio.create_task(store.append("late", [NewEvent("A", 9)]))
    async with no_hang():
        results = await asyncio.gather(*written)
        assert (await denied).version == 1
    assert [(result.version, result.deduplicated) for result in results] == [(1, False)] * 5
    assert len((await store.read_all()).events) == 7


async def test_what_cannot_be_learned_in_time_is_said_to_be_unknown(double: Double) -> None:
    async with await EventStoreDBEventStore.connect(double.uri, timeout=0.3) as store:
        double.faults.append(Fault("drop-before", "*", 1000))
        async with no_hang():
            with pytest.raises(StoreUnavailableError, match="not known"):
                await store.append("a", [NewEvent("A", 1)])
            with pytest.raises(StoreUnavailableError):
                await store.read("a")
        double.faults.clear()

        async def is_written() -> bool:
            with suppress(StoreUnavailableError):  # it has little time to find the server again
                return (await store.append("a", events, expected=0)).version == 1
            return False

        events = [NewEvent("A", 1)]
        await until(is_written, "the server is found again")


async def test_reads_are_repeated(double: Double, store: EventStoreDBEventStore) -> None:
    await store.append("a", [NewEvent("A", n) for n in range(20)])
    for kind in ("drop-before", "drop-after"):
        double.faults.append(Fault(kind, "Read", 2))
        assert len((await store.read("a")).events) == 20
        double.faults.append(Fault(kind, "Read", 2))
        assert len((await store.read_all()).events) == 20


@pytest.mark.parametrize("of_all", [False, True])
async def test_a_read_is_whole_although_another_call_loses_the_connection(
    double: Double, store: EventStoreDBEventStore, of_all: bool
) -> None:
    async def read() -> Sequence[RecordedEvent]:
        if of_all:
            return (await store.read_all()).events
        return (await store.read("a")).events

    await store.append("a", [NewEvent("A", n) for n in range(20)])
    double.faults.append(Fault("slow", "Read"))
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        await asyncio.sleep(double.slowness / 3)
        double.faults.append(Fault("drop-before", "BatchAppend"))
        await store.append("b", [NewEvent("B", 1)])
    assert len([event for event in reading.result() if event.stream == "a"]) == 20


async def test_a_node_that_is_not_the_leader_refers_to_it(
    double: Double, store: EventStoreDBEventStore
) -> None:
    double.leader_port = double.port
    double.faults.append(Fault("not-leader", "BatchAppend", 2))
    assert (await store.append("a", [NewEvent("A", 1)])).version == 1
    assert len((await store.read_all()).events) == 1


async def test_a_subscription_resumes_after_a_lost_connection(
    double: Double, store: EventStoreDBEventStore
) -> None:
    async with no_hang(), store.subscribe() as subscription:
        for number in range(6):
            double.faults.append(Fault("drop-before", "Read", number))
            await store.append("a", [NewEvent("A", number)])
            assert (await anext(subscription)).data == number


@pytest.mark.parametrize("size", [1, 100])
async def test_another_history_at_the_same_address_is_noticed(
    double: Double, store: EventStoreDBEventStore, size: int
) -> None:
    await store.append("a", [NewEvent("A", n) for n in range(3)])
    async with no_hang(), store.subscribe() as subscription:
        for number in range(3):
            assert (await anext(subscription)).data == number
        double.reset()
        events = [
            Proposed(str(uuid4()), "B", "application/json", b"1" * size, b"") for _ in range(10)
        ]
        double.database.append("b", -2, events)
        double.faults.append(Fault("drop-before", "Read"))
        double.attend()
        with pytest.raises(HistoryReplacedError):
            await anext(subscription)


async def test_an_append_does_not_wait_for_the_subscriptions_of_a_lost_connection(
    double: Double, store: EventStoreDBEventStore
) -> None:
    async with store.subscribe() as subscription:
        for number in range(4):
            async with no_hang():
                double.faults.append(Fault("drop-after", "BatchAppend", number % 2))
                await store.append("a", [NewEvent("A", number)])
                assert (await anext(subscription)).data == number


async def test_the_server_wakes_subscriptions_again_after_a_lost_connection(
    double: Double, store: EventStoreDBEventStore
) -> None:
    feed: Any = store._feed
    feed.FIRST_INTERVAL = feed.LONGEST_INTERVAL = feed.PUSHED_INTERVAL = 3600
    async with store.subscribe() as subscription:
        await asyncio.sleep(0.2)
        double.faults.append(Fault("drop-before", "BatchAppend"))
        await store.append("a", [NewEvent("A", 0)])
        assert (await anext(subscription)).data == 0
        waiting = asyncio.create_task(anext(subscription))
        async with no_hang(), await EventStoreDBEventStore.connect(double.uri) as other:
            number = 0
            while not waiting.done():  # until it listens again, nothing can wake it
                number += 1
                await other.append("a", [NewEvent("A", number)])
                await asyncio.sleep(0.02)
            assert waiting.result().data == 1
            for later in range(2, number + 1):
                assert (await anext(subscription)).data == later
            waiting = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0.1)  # so that it sleeps
            await other.append("a", [NewEvent("A", -1)])
            assert (await waiting).data == -1


@pytest.fixture(params=["25.1", "26.0", "26.1"] if KURRENT else [])
async def versioned(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with serve(Double(version=request.param)) as served:
        yield served


if KURRENT:

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_session_over_streams_is_committed_once(versioned: Double, kind: Kind) -> None:
        async with await EventStoreDBEventStore.connect(versioned.uri, timeout=5) as store:
            for method in ("AppendSession", "AppendRecords"):
                versioned.faults.append(Fault(kind, method))
            async with no_hang(), store.session() as session:
                await session.append("a", [NewEvent("A", 1)])
                await session.append("b", [NewEvent("B", 1), NewEvent("B", 2)])
            await until(lambda: not versioned.late, "what comes late has come")
            events = (await store.read_all()).events
            assert [(e.stream, e.version) for e in events] == [("a", 1), ("b", 1), ("b", 2)]
            assert session.position == events[-1].position
