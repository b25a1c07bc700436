"""Commits over several streams come out as the port promises, whatever real servers do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from adapters.eventstoredb.tests.at_servers import collected, numbered, set_metadata
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double, Fault

from eventport import (
    ConcurrencyError,
    NewEvent,
    NotSupportedError,
    PayloadTooLargeError,
    run_in_session,
)

from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_eventstoredb import EventStoreDBEventStore


@pytest.fixture(params=["25.1", "26.0", "26.1"])
async def newer(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with no_hang(seconds=5 * HANG_SECONDS), serve(Double(version=request.param)) as served:
        yield served


@pytest.fixture
async def on_newer(newer: Double) -> AsyncGenerator[EventStoreDBEventStore, None]:
    async with await EventStoreDBEventStore.connect(newer.uri, timeout=20) as store:
        yield store


async def commit(store: EventStoreDBEventStore, events: Sequence[NewEvent], *streams: str) -> None:
    async with store.session() as session:
        for stream in streams:
            await session.append(stream, events)


async def test_a_refused_commit_is_not_sent_again(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    methods = ("AppendRecords", "AppendSession")
    newer.faults += [Fault("refused", method, 100) for method in methods]
    newer.calls.clear()
    with pytest.raises(NotSupportedError, match="because"):
        await commit(on_newer, numbered(1), "a", "b")
    assert sum(newer.calls.count(method) for method in methods) == 1
    newer.faults.clear()
    with pytest.raises(PayloadTooLargeError):
        await commit(on_newer, [NewEvent("A", b"x" * 16_900_000)], "a", "b")
    assert (await on_newer.read_all()).events == []


async def test_names_count_in_the_size_of_a_commit(double: Double) -> None:
    async with await EventStoreDBEventStore.connect(double.uri, timeout=20) as store:
        events = [NewEvent("t" * 500, 0) for _ in range(14_000)]
        with pytest.raises(PayloadTooLargeError):
            await commit(store, events, "a" * 500, "b" * 500)
        assert (await store.read_all()).events == []


async def test_a_commit_to_a_softly_deleted_stream_goes_on_with_its_numbers(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("a", numbered(2))
    newer.database.delete("a", -2)
    given = collected(on_newer)
    await commit(on_newer, numbered(2), "a", "b")
    assert [event.version for event in (await on_newer.read("a")).events] == [3, 4]
    assert [(event.stream, event.version) for event in given] == [
        ("a", 3),
        ("a", 4),
        ("b", 1),
        ("b", 2),
    ]


async def test_a_commit_is_given_to_hooks_as_far_as_it_can_be_read(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    given = collected(on_newer)
    set_metadata(newer, "a", '{"$maxCount": 1}')
    await commit(on_newer, numbered(3), "a", "b")
    assert [(event.stream, event.version) for event in given] == [
        ("a", 3),
        ("b", 1),
        ("b", 2),
        ("b", 3),
    ]
    assert given == [
        *(await on_newer.read("a")).events,
        *(await on_newer.read("b")).events,
    ]


async def test_a_tombstone_in_a_commit_is_refused_for_good(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("a", numbered(1))
    newer.database.tombstone("a", -2)
    tried: list[int] = []

    async def attempt(session: Any) -> None:
        tried.append(1)
        await session.append("b", numbered(1))
        await session.append("a", numbered(1))

    with pytest.raises(NotSupportedError, match="'a' has been deleted for good"):
        await run_in_session(on_newer, attempt)
    assert tried == [1]
    assert not (await on_newer.read("b")).exists


async def test_a_commit_whose_stream_is_deleted_meanwhile_is_a_conflict(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("a", numbered(2))
    with pytest.raises(ConcurrencyError) as caught:  # noqa: PT012  # the end of the block may raise
        async with on_newer.session() as session:
            await session.append("b", numbered(1))
            await session.append("a", numbered(1))
            await on_newer.append("a", numbered(1))
            newer.database.delete("a", -2)
    assert (caught.value.stream, caught.value.actual) == ("a", 0)
