"""What a session expects of streams that it does not write holds at its commit, on KurrentDB."""

from __future__ import annotations

import asyncio
import json

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from random import randrange
from typing import Any
from uuid import uuid4

import pytest

from adapters.eventstoredb.tests.at_servers import numbered, set_metadata
from adapters.eventstoredb.tests.double.database import Proposed
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double, Fault, Kind
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import (
    NO_STREAM,
    STREAM_EXISTS,
    Capability,
    ConcurrencyError,
    ConfigurationError,
    Expectation,
    NewEvent,
    NotSupportedError,
)

from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_eventstoredb import EventStoreDBEventStore
from eventport_eventstoredb.vendor import load_library


pytestmark = pytest.mark.skipif(not KURRENT, reason="the older client has no such call")


@pytest.fixture(params=["26.0", "26.1"])
async def newer(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with no_hang(seconds=5 * HANG_SECONDS), serve(Double(version=request.param)) as served:
        yield served


@pytest.fixture
async def on_newer(newer: Double) -> AsyncGenerator[EventStoreDBEventStore, None]:
    async with await EventStoreDBEventStore.connect(newer.uri, timeout=20) as store:
        assert Capability.GUARDS in store.capabilities
        yield store


async def commit(
    store: EventStoreDBEventStore,
    seen: str,
    expected: Expectation,
    written: str = "written",
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Write a stream if another one is as expected."""
    async with store.session() as session:
        await session.require(seen, expected)
        await session.append(written, numbered(1))
        meanwhile()


async def commit_held(
    double: Double,
    store: EventStoreDBEventStore,
    expected: Expectation,
    meanwhile: Callable[[], object],
) -> None:
    """Commit, and let something happen after the last look and before the server's checks."""
    double.calls.clear()
    double.frozen.add("AppendRecords")
    committing = asyncio.create_task(commit(store, "seen", expected))
    await until(lambda: "AppendRecords" in double.calls, "the commit is on its way")
    meanwhile()
    double.frozen.clear()
    await committing


@pytest.mark.parametrize("expected", [NO_STREAM, 0])
async def test_names_that_differ_in_case_are_refused(
    on_newer: EventStoreDBEventStore, expected: Expectation
) -> None:
    with pytest.raises(NotSupportedError, match="differ in case"):
        await commit(on_newer, "x-A", expected, "x-a")
    assert (await on_newer.read_all()).events == []


@pytest.mark.parametrize("expected", [1, STREAM_EXISTS])
async def test_a_checked_stream_that_is_deleted_in_the_block_is_a_conflict(
    newer: Double, on_newer: EventStoreDBEventStore, expected: Expectation
) -> None:
    await on_newer.append("seen", numbered(1))
    with pytest.raises(ConcurrencyError) as caught:
        await commit(on_newer, "seen", expected, meanwhile=lambda: newer.database.delete("seen", 0))
    assert (caught.value.stream, caught.value.actual) == ("seen", 0)
    assert (await on_newer.read("written")).version == 0


@pytest.mark.parametrize("expected", [1, STREAM_EXISTS])
@pytest.mark.parametrize("for_good", [False, True])
async def test_a_checked_stream_that_is_deleted_right_before_the_commit_is_a_conflict(
    newer: Double, on_newer: EventStoreDBEventStore, expected: Expectation, *, for_good: bool
) -> None:
    await on_newer.append("seen", numbered(1))
    delete = newer.database.tombstone if for_good else newer.database.delete
    with pytest.raises(ConcurrencyError) as caught:
        await commit_held(newer, on_newer, expected, lambda: delete("seen", 0))
    assert (caught.value.stream, caught.value.actual) == ("seen", 0)
    assert (await on_newer.read("written")).version == 0


async def test_new_metadata_of_a_checked_stream_is_no_conflict(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("seen", numbered(2))
    set_metadata(newer, "seen", '{"$maxCount": 5}')
    await commit_held(newer, on_newer, 2, lambda: set_metadata(newer, "seen", '{"$maxCount": 1}'))
    assert (await on_newer.read("written")).version == 1


async def test_a_checked_stream_may_come_back_after_its_deletion(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("seen", numbered(2))
    newer.database.delete("seen", 1)
    await on_newer.append("seen", numbered(1), expected=NO_STREAM)
    await commit(on_newer, "seen", 3)
    newer.database.delete("seen", 2)
    await commit(on_newer, "seen", NO_STREAM)
    assert (await on_newer.read("written")).version == 2


@pytest.mark.parametrize("for_good", [False, True])
async def test_a_deleted_stream_is_missing(
    newer: Double, on_newer: EventStoreDBEventStore, *, for_good: bool
) -> None:
    await on_newer.append("seen", numbered(1))
    (newer.database.tombstone if for_good else newer.database.delete)("seen", 0)
    await commit(on_newer, "seen", NO_STREAM)
    await commit(on_newer, "seen", 0)
    assert (await on_newer.read("written")).version == 2
    for expected in (1, STREAM_EXISTS):
        with pytest.raises(ConcurrencyError):
            await commit(on_newer, "seen", expected)
    assert (await on_newer.read("written")).version == 2


async def test_a_stream_of_which_only_metadata_was_set_is_missing(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    set_metadata(newer, "seen", '{"$maxCount": 5}')
    await commit(on_newer, "seen", NO_STREAM)
    with pytest.raises(ConcurrencyError) as caught:
        await commit(on_newer, "seen", STREAM_EXISTS)
    assert (caught.value.stream, caught.value.actual) == ("seen", 0)
    assert (await on_newer.read("written")).version == 1


async def test_a_session_that_only_requires_sends_no_commit(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("seen", numbered(1))
    newer.calls.clear()
    async with on_newer.session() as session:
        await session.require("seen", 1)
    assert "AppendRecords" not in newer.calls


async def test_without_access_to_metadata_it_is_refused(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("seen", numbered(1))

    def deny() -> None:
        newer.faults.append(Fault("denied", "Read", 100))

    with pytest.raises(ConfigurationError, match="denies access"):
        await commit(on_newer, "seen", 1, meanwhile=deny)
    newer.faults.clear()
    assert (await on_newer.read("written")).version == 0


@pytest.mark.parametrize("kind", ["drop-before", "drop-after", "drop-late", "slow"])
@pytest.mark.parametrize("moved", [False, True])
async def test_a_commit_whose_answer_is_lost_is_there_once(
    newer: Double, on_newer: EventStoreDBEventStore, kind: Kind, *, moved: bool
) -> None:
    """A stream that moves on after the commit does not make it a conflict."""
    await on_newer.append("seen", numbered(1))
    newer.faults.append(Fault(kind, "AppendRecords", 1))
    committing = asyncio.create_task(commit(on_newer, "seen", 1))
    if moved:
        await until(lambda: newer.database.stream("written").head == 0, "the commit is written")
        async with await EventStoreDBEventStore.connect(newer.uri) as other:
            await other.append("seen", numbered(1))
    await committing
    await until(lambda: not newer.late, "what comes late has come")
    assert len((await on_newer.read("written")).events) == 1


async def test_a_conflict_is_final_although_the_answer_was_lost(
    newer: Double, on_newer: EventStoreDBEventStore
) -> None:
    await on_newer.append("seen", numbered(1))
    newer.faults.append(Fault("drop-before", "AppendRecords", 1))

    def move() -> None:
        event = Proposed(str(uuid4()), "A", "application/json", b"1", b"")
        newer.database.append("seen", 0, [event])

    with pytest.raises(ConcurrencyError) as caught:
        await commit(on_newer, "seen", 1, meanwhile=move)
    assert (caught.value.stream, caught.value.actual) == ("seen", 2)
    assert (await on_newer.read("written")).version == 0


async def log_of(double: Double) -> list[Any]:
    """Read what was written, in its order, by the vendor's client."""
    client: Any = load_library().client(double.uri)
    await client.connect()
    try:
        read = await client.read_all()
        return [event async for event in read if not event.stream_name.startswith("$")]
    finally:
        await client.close()


async def test_no_commit_is_written_whose_checked_stream_had_moved(newer: Double) -> None:
    counts = Counter[str]()

    def is_enough() -> bool:
        return min(counts["refused"], counts["a"], counts["b"]) >= 10

    async def decide(name: str) -> None:
        async with (
            await EventStoreDBEventStore.connect(newer.uri, timeout=20) as store,
            await EventStoreDBEventStore.connect(newer.uri, timeout=20) as other,
            asyncio.TaskGroup() as moves,
        ):
            while not is_enough():
                seen = (await store.read("seen", max_count=0)).version
                try:
                    async with store.session() as session:
                        await session.require("seen", seen)
                        if randrange(2):
                            moves.create_task(other.append("seen", numbered(1)))
                        await session.append(name, [NewEvent("Decided", seen)])
                except ConcurrencyError:
                    counts["refused"] += 1
                else:
                    counts[name] += 1

    await asyncio.gather(decide("a"), decide("b"))
    heads = Counter[str]()
    for event in await log_of(newer):
        if event.stream_name != "seen":
            assert json.loads(event.data) == heads["seen"]
        heads[event.stream_name] += 1
    assert (heads["a"], heads["b"]) == (counts["a"], counts["b"])


async def test_an_older_server_refuses_with_the_reason() -> None:
    async with (
        serve(Double(version="25.1")) as double,
        await EventStoreDBEventStore.connect(double.uri) as store,
    ):
        await store.append("seen", numbered(1))
        with pytest.raises(NotSupportedError, match=r"KurrentDB 26\.0\.3"):
            await commit(store, "seen", 1)
