"""What real servers do beyond the rules comes out as the port promises."""

from __future__ import annotations

import asyncio

import pytest

from adapters.eventstoredb.tests.at_servers import collected, numbered, set_metadata
from adapters.eventstoredb.tests.double.state import Double, Fault

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    ConfigurationError,
    Expectation,
    HistoryReplacedError,
    InvalidArgumentError,
    NewEvent,
    PayloadTooLargeError,
    StoreUnavailableError,
)

from eventport_conformance.waiting import until
from eventport_eventstoredb import EventStoreDBEventStore


# Conflicts.


async def test_the_version_of_a_conflict_can_be_read(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    await on_server.append("a", numbered(1))
    async with await EventStoreDBEventStore.connect(server.uri) as other:
        server.lag = 0.3
        writing = asyncio.create_task(other.append("a", numbered(3)))
        await until(lambda: server.database.stream("a").head == 3, "others have written")
        with pytest.raises(ConcurrencyError) as caught:
            await on_server.append("a", numbered(1), expected=1)
        assert (await on_server.read("a")).version == caught.value.actual == 4
        assert (await writing).version == 4


async def test_the_version_of_a_conflict_over_a_new_stream_can_be_read(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    async with await EventStoreDBEventStore.connect(server.uri) as other:
        server.lag = 0.3
        writing = asyncio.create_task(other.append("a", numbered(3)))
        await until(lambda: server.database.stream("a").head == 2, "others have written")
        with pytest.raises(ConcurrencyError) as caught:
            await on_server.append("a", numbered(1), expected=NO_STREAM)
        assert (await on_server.read("a")).version == caught.value.actual == 3
        await writing


async def test_a_conflict_on_a_softly_deleted_stream_reports_that_it_is_missing(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    await on_server.append("a", numbered(3))
    server.database.delete("a", -2)
    with pytest.raises(ConcurrencyError) as caught:
        await on_server.append("a", numbered(1), expected=7)
    assert caught.value.actual == 0
    with pytest.raises(ConcurrencyError) as caught:
        await on_server.append("a", numbered(1), expected=STREAM_EXISTS)
    assert caught.value.actual == 0


async def test_a_stream_that_is_deleted_between_look_and_append_is_a_conflict(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    await on_server.append("a", numbered(1))
    server.faults.append(Fault("slow", "BatchAppend"))
    appending = asyncio.create_task(on_server.append("a", numbered(1), expected=STREAM_EXISTS))
    await until(lambda: server.calls.count("BatchAppend") == 2, "both are sent")
    server.database.delete("a", -2)
    with pytest.raises(ConcurrencyError) as caught:
        await appending
    assert caught.value.actual == 0


# Hooks.


async def test_hooks_are_given_the_time_of_each_event(on_server: EventStoreDBEventStore) -> None:
    given = collected(on_server)
    await on_server.append("a", numbered(3))
    assert len({event.recorded_at for event in given}) == 3
    assert given == (await on_server.read("a")).events


@pytest.mark.parametrize("metadata", ['{"$maxCount": 1}', '{"$tb": 99}'])
async def test_an_event_that_is_hidden_at_once_is_left_out_of_hooks(
    server: Double, on_server: EventStoreDBEventStore, metadata: str
) -> None:
    given = collected(on_server)
    set_metadata(server, "a", metadata)
    result = await on_server.append("a", numbered(3))
    assert result.version == 3
    assert given == (await on_server.read("a")).events


async def test_a_commit_stands_if_it_cannot_be_read_back(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    collected(on_server)
    server.faults.append(Fault("denied", "Read", 1000))
    assert (await on_server.append("a", numbered(3))).version == 3


# Deleted and truncated streams.


async def test_a_stream_that_is_truncated_altogether_keeps_its_version(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    await on_server.append("a", numbered(5))
    set_metadata(server, "a", '{"$tb": 99}')
    async with await EventStoreDBEventStore.connect(server.uri) as other:
        read = await other.read("a")
        assert (read.events, read.version, read.exists) == ([], 5, True)
        assert (await other.append("a", [])).version == 5
        assert (await other.append("a", numbered(1), expected=STREAM_EXISTS)).version == 6
    async with await EventStoreDBEventStore.connect(server.uri) as other:
        assert (await other.append("a", numbered(1), expected=6)).version == 7


@pytest.mark.parametrize("expected", [0, NO_STREAM])
async def test_old_ids_are_written_again_to_a_softly_deleted_stream(
    server: Double, on_server: EventStoreDBEventStore, expected: Expectation
) -> None:
    events = numbered(2)
    await on_server.append("a", events)
    server.database.delete("a", -2)
    result = await on_server.append("a", events, expected=expected)
    assert (result.version, result.created, result.deduplicated) == (4, True, False)
    read = await on_server.read("a")
    assert [(event.version, event.id) for event in read.events] == [
        (3, events[0].id),
        (4, events[1].id),
    ]


async def test_a_retry_by_another_store_is_recognised_without_a_look(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    async with await EventStoreDBEventStore.connect(server.uri) as other:
        events = numbered(3)
        first = await other.append("a", events, expected=NO_STREAM)
        server.calls.clear()
        new = await on_server.append("b", numbered(1), expected=NO_STREAM)
        assert server.calls == ["BatchAppend"]
        again = await on_server.append("a", events, expected=NO_STREAM)
    assert (new.created, new.deduplicated) == (True, False)
    assert (again.version, again.position, again.deduplicated) == (3, first.position, True)


# Waiting.


async def test_a_made_up_position_is_refused_for_reads_and_subscriptions(
    on_server: EventStoreDBEventStore,
) -> None:
    await on_server.append("a", numbered(3))
    made_up = (await on_server.read_all(max_count=1)).position + 1
    with pytest.raises(InvalidArgumentError, match="after"):
        await on_server.read_all(after=made_up)
    with pytest.raises(InvalidArgumentError, match="after"):
        await on_server.read_all(after=made_up, types=["A"])
    with pytest.raises(InvalidArgumentError, match="after"):
        async with on_server.subscribe(after=made_up):
            pass


async def test_the_number_before_a_position_is_a_place_to_read_from(
    on_server: EventStoreDBEventStore,
) -> None:
    """The store verifies in this way that an event is still where it was."""
    await on_server.append("a", numbered(3))
    for event in (await on_server.read("a")).events:
        for types in (None, ["A"]):
            found = await on_server.read_all(after=event.position - 1, types=types, max_count=1)
            assert found.events == [event]


async def test_what_is_beyond_the_last_event_is_empty_to_reads_and_refused_to_subscriptions(
    on_server: EventStoreDBEventStore,
) -> None:
    await on_server.append("a", numbered(3))
    last = (await on_server.read("a")).events[-1].position
    for beyond in (last + 100, last + 1_000_000):
        for types in (None, ["A"]):
            assert (await on_server.read_all(after=beyond, types=types)).events == []
        with pytest.raises(HistoryReplacedError, match="beyond the last event"):
            async with on_server.subscribe(after=beyond):
                pass
    async with on_server.subscribe(after=last) as subscription:
        await on_server.append("b", numbered(1))
        assert (await anext(subscription)).stream == "b"


# Lost answers.


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 2])
async def test_an_error_of_the_search_is_no_answer_to_the_append(
    server: Double, expected: Expectation
) -> None:
    async with await EventStoreDBEventStore.connect(server.uri, timeout=2) as store:
        await store.append("a", numbered(2))
        server.faults += [Fault("drop-after", "BatchAppend"), Fault("denied", "BatchAppend", 100)]

        def deny_reads() -> None:
            server.faults.append(Fault("denied", "Read", 100))

        server.database.on_commit = deny_reads
        with pytest.raises(StoreUnavailableError, match="not known"):
            await store.append("a", numbered(1), expected=expected)
        server.faults.clear()
        assert (await store.read("a")).version == 3


async def test_a_denied_append_that_was_not_lost_is_denied(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    server.faults.append(Fault("denied", "BatchAppend"))
    with pytest.raises(ConfigurationError, match="denies access"):
        await on_server.append("a", numbered(1))


# Many at once.


async def test_appends_of_one_stream_that_wait_become_one(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    server.calls.clear()
    results = await asyncio.gather(
        *(on_server.append("a", [NewEvent("A", n), NewEvent("B", n)]) for n in range(64))
    )
    assert len(server.calls) <= 4
    read = (await on_server.read("a")).events
    assert sorted(result.version for result in results) == list(range(2, 129, 2))
    assert [result.created for result in results].count(True) == 1
    for number, result in enumerate(results):
        event = read[result.version - 1]
        assert (event.data, event.position) == (number, result.position)


async def test_one_that_is_too_large_spoils_no_joined_append(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    server.database.max_append_size = 1000
    results = await asyncio.gather(
        *(on_server.append("a", [NewEvent("A", "x" * (600 + n % 9 * 100))]) for n in range(27)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, PayloadTooLargeError)]
    assert len(refused) == 3 * 5
    assert (await on_server.read("a")).version == 27 - len(refused)
