"""What is peculiar to the server comes out in the terms of the port."""

from __future__ import annotations

import subprocess
import sys

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from adapters.eventstoredb.tests.at_servers import numbered, set_metadata
from adapters.eventstoredb.tests.double.database import Proposed
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double, Fault
from adapters.eventstoredb.tests.double.stubs import KURRENT
from adapters.eventstoredb.tests.double.versions import Version

from eventport import (
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    ConfigurationError,
    CorruptEventError,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    PayloadTooLargeError,
    StoreUnavailableError,
    connect,
)

from eventport_conformance.waiting import no_hang
from eventport_eventstoredb import EventStoreDBEventStore, vendor
from eventport_eventstoredb.wire import carried_type


def foreign(data: bytes, metadata: bytes = b"") -> Proposed:
    id_ = "00000000-0000-0000-0000-000000000001"
    return Proposed(id_, "Theirs", "application/json", data, metadata)


async def test_an_empty_append_does_not_reach_the_server(
    double: Double, store: EventStoreDBEventStore
) -> None:
    await store.append("a", numbered(2))
    double.database.delete("a", -2)
    double.calls.clear()
    assert (await store.append("a", [])).version == 0
    assert set(double.calls) == {"Read"}
    assert double.database.stream("a").soft_deleted


async def test_a_softly_deleted_stream_is_missing_and_its_numbering_goes_on(
    double: Double, store: EventStoreDBEventStore
) -> None:
    await store.append("a", numbered(2))
    double.database.delete("a", -2)
    read = await store.read("a")
    assert (read.events, read.version, read.exists) == ([], 0, False)
    with pytest.raises(ConcurrencyError):
        await store.append("a", numbered(1), expected=STREAM_EXISTS)
    result = await store.append("a", numbered(1), expected=NO_STREAM)
    assert (result.version, result.created) == (3, True)
    read = await store.read("a")
    assert ([event.version for event in read.events], read.version) == ([3], 3)
    assert len((await store.read_all()).events) == 3


async def test_a_tombstoned_stream_is_missing_and_refuses_appends(
    double: Double, store: EventStoreDBEventStore
) -> None:
    await store.append("a", numbered(2))
    double.database.tombstone("a", -2)
    read = await store.read("a")
    assert (read.events, read.version) == ([], 0)
    with pytest.raises(NotSupportedError, match="'a' has been deleted for good"):
        await store.append("a", numbered(1))
    with pytest.raises(NotSupportedError, match="'a' has been deleted for good"):
        await store.append("a", numbered(1), expected=NO_STREAM)
    with pytest.raises(ConcurrencyError):
        await store.append("b", numbered(1), expected=2)
    assert [event.type for event in (await store.read_all()).events] == ["A", "A"]


@pytest.mark.parametrize(("text", "versions"), [('{"$maxCount": 2}', [4, 5]), ('{"$tb": 9}', [])])
async def test_a_truncated_stream_keeps_its_head(
    double: Double, store: EventStoreDBEventStore, text: str, versions: list[int]
) -> None:
    await store.append("a", numbered(5))
    set_metadata(double, "a", text)
    for backwards in (False, True):
        read = await store.read("a", backwards=backwards)
        assert (sorted(event.version for event in read.events), read.version) == (versions, 5)
    assert (await store.read("a", to_version=2)).events == []
    assert (await store.read("a", to_version=2)).version == 5
    async with await EventStoreDBEventStore.connect(double.uri) as other:
        assert (await other.append("a", numbered(1), expected=5)).version == 6
    assert len((await store.read_all()).events) == 6


async def test_a_soft_deletion_by_others_is_seen_by_the_next_look(
    double: Double, store: EventStoreDBEventStore
) -> None:
    await store.append("a", numbered(2))
    await store.append("b", numbered(2))
    for stream in "ab":
        double.database.delete(stream, -2)
    assert (await store.append("a", numbered(1), expected=2)).version == 3
    assert [event.version for event in (await store.read("a")).events] == [3]
    assert not (await store.read("b")).exists
    with pytest.raises(ConcurrencyError):
        await store.append("b", numbered(1), expected=2)


async def test_a_stream_with_only_metadata_does_not_exist(
    double: Double, store: EventStoreDBEventStore
) -> None:
    set_metadata(double, "a", '{"$maxCount": 9}')
    assert not (await store.read("a")).exists
    with pytest.raises(ConcurrencyError):
        await store.append("a", numbered(1), expected=STREAM_EXISTS)


async def test_the_servers_own_streams_are_hidden(
    double: Double, store: EventStoreDBEventStore
) -> None:
    async with no_hang(), store.subscribe() as subscription:
        for number in range(3):
            set_metadata(double, "a", '{"$maxCount": 9}')
            await store.append("a", [NewEvent("$metadata", number)])
            assert (await anext(subscription)).data == number
    assert len((await store.read_all()).events) == 3
    assert len((await store.read_all(types=["$metadata"])).events) == 3
    assert (await store.read_all(prefix="$")).events == []
    assert len([event async for event in store.iterate_all()]) == 3


async def test_events_of_other_programs_can_be_read(
    double: Double, store: EventStoreDBEventStore
) -> None:
    double.database.append("a", -2, [foreign(b'{"n": 1}')])
    (event,) = (await store.read("a")).events
    assert (event.data, event.metadata) == ({"n": 1}, {})
    double.database.append("b", -2, [foreign(b"no JSON")])
    with pytest.raises(CorruptEventError):
        await store.read("b")


async def test_metadata_that_looks_like_an_envelope_stays_closed(
    store: EventStoreDBEventStore,
) -> None:
    events = [NewEvent("A", 1, {"eventport-metadata": '{"a": 1}', "eventport-type": "B"})]
    await store.append("a", events)
    (event,) = (await store.read("a")).events
    assert (event.type, event.metadata) == ("A", events[0].metadata)


async def test_a_made_up_position_is_refused(store: EventStoreDBEventStore) -> None:
    await store.append("a", numbered(3))
    last = (await store.read_all()).position
    with pytest.raises(InvalidArgumentError, match="after"):
        await store.read_all(after=last - 2)


async def test_what_the_server_refuses_for_its_size_is_not_written(
    double: Double, store: EventStoreDBEventStore
) -> None:
    double.database.max_append_size = 1000
    with pytest.raises(PayloadTooLargeError):
        await store.append("a", [NewEvent("A", "x" * 2000)])
    with pytest.raises(PayloadTooLargeError):
        await store.append("a", [NewEvent("A", b"x" * 17_000_000)])
    assert not (await store.read("a")).exists


async def test_a_generator_of_events_is_written_whole_although_an_answer_is_lost(
    double: Double, store: EventStoreDBEventStore
) -> None:
    double.faults.append(Fault("drop-before", "BatchAppend"))
    await store.append("a", (event for event in numbered(3)))
    assert (await store.read("a")).version == 3


async def test_hooks_are_told_positions_and_times(store: EventStoreDBEventStore) -> None:
    told: list[Any] = []

    @store.after_commit
    async def hook(events: Any) -> None:
        told.extend(events)

    await store.append("a", numbered(3))
    assert told == (await store.read("a")).events


@pytest.mark.parametrize("scheme", ["esdb", "kurrentdb", "kdb"])
async def test_each_scheme_leads_to_the_server(double: Double, scheme: str) -> None:
    url = double.uri.replace("esdb", scheme) + "&timeout=7"
    async with connect(url) as store:
        assert (await store.append("a", numbered(1))).version == 1


async def test_an_error_never_shows_the_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        await EventStoreDBEventStore.connect("esdb://admin:secret@localhost:1?nonsense=1")
    assert "secret" not in str(caught.value)
    assert "NONSENSE" in str(caught.value)
    with pytest.raises(ConfigurationError):
        await EventStoreDBEventStore.connect("esdb://localhost:1?tls=false", timeout=0)


async def test_a_server_that_is_not_there_is_said_to_be_unavailable() -> None:
    async with no_hang():
        with pytest.raises(StoreUnavailableError):
            await EventStoreDBEventStore.connect("esdb://127.0.0.1:1?tls=false")


@pytest.mark.parametrize(("installed", "text"), [((), "no client"), ((1, 1), "both installed")])
def test_neither_client_or_both_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[int, ...], text: str
) -> None:
    monkeypatch.setattr(vendor, "find_spec", lambda _: installed or None)
    with pytest.raises(ConfigurationError, match=text):
        vendor.load_library()


def test_the_double_runs_in_a_process_of_its_own() -> None:
    code = "import sys; from adapters.eventstoredb.tests.double import server; print(server.v2)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def session_store(
    request: pytest.FixtureRequest,
) -> AsyncGenerator[EventStoreDBEventStore, None]:
    version: Version = request.param
    async with (
        serve(Double(version=version)) as served,
        await EventStoreDBEventStore.connect(served.uri) as opened,
    ):
        yield opened


@pytest.mark.parametrize("session_store", ["23.10"], indirect=True)
async def test_an_old_server_commits_one_stream(session_store: EventStoreDBEventStore) -> None:
    with pytest.raises(NotSupportedError, match=r"KurrentDB 25\.1"):  # noqa: PT012  # the end of the block may raise
        async with session_store.session() as session:
            await session.append("a", numbered(1))
            await session.append("b", numbered(1))
    async with session_store.session() as session:
        await session.append("a", numbered(1))
        await session.append("a", numbered(1))
    assert (await session_store.read("a")).version == 2


if KURRENT:
    BOTH = pytest.mark.parametrize("session_store", ["25.1", "26.0", "26.1"], indirect=True)

    @BOTH
    async def test_sessions_carry_types_and_metadata_unharmed(
        session_store: EventStoreDBEventStore,
    ) -> None:
        metadata = {"n": 1.0, "z": [None, {"a.b": "\0"}], "$schema.name": "mine", "a": "é"}
        types = [
            "Plain",
            "Überraschung 🦀",
            "été",
            "e\u0301",
            "a/b",
            "eventport:Plain",
            "with space",
            "a:b",
        ]
        events = [NewEvent(type_, {"b": 1, "a": [1.0]}, metadata) for type_ in types]
        events.append(NewEvent("Bytes", b"\0\xff", {}))
        async with session_store.session() as session:
            await session.append("a", events)
            await session.append("b", events)
        for stream in "ab":
            read = (await session_store.read(stream)).events
            assert [(e.type, e.data, e.metadata, e.id) for e in read] == [
                (e.type, e.data, e.metadata, e.id) for e in events
            ]
            assert list(read[0].metadata) == list(metadata)
        for type_ in types:
            found = (await session_store.read_all(types=[type_])).events
            assert [(e.stream, e.type) for e in found] == [("a", type_), ("b", type_)]

    @BOTH
    async def test_a_conflict_of_a_session_tells_stream_and_version(
        session_store: EventStoreDBEventStore,
    ) -> None:
        await session_store.append("b", numbered(1))
        with pytest.raises(ConcurrencyError) as caught:  # noqa: PT012  # the end of the block may raise
            async with session_store.session() as session:
                await session.append("a", numbered(1))
                await session.append("b", numbered(1))
                await session_store.append("b", numbered(2))
        assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("b", 1, 3)
        assert not (await session_store.read("a")).exists

    @pytest.mark.parametrize("session_store", ["25.1"], indirect=True)
    async def test_what_25_1_cannot_order_is_refused(
        session_store: EventStoreDBEventStore,
    ) -> None:
        with pytest.raises(NotSupportedError, match=r"26\.0\.3"):  # noqa: PT012  # the end of the block may raise
            async with session_store.session() as session:
                for stream in "aba":
                    await session.append(stream, numbered(1))
        assert (await session_store.read_all()).events == []

    @BOTH
    async def test_names_that_differ_in_case_only_are_refused_in_one_commit(
        session_store: EventStoreDBEventStore,
    ) -> None:
        with pytest.raises(NotSupportedError, match="differ in case only"):  # noqa: PT012  # the end of the block may raise
            async with session_store.session() as session:
                for stream in ("order-a", "order-A"):
                    await session.append(stream, numbered(1))
        assert (await session_store.read_all()).events == []


def test_types_that_are_carried_differ_from_all_others() -> None:
    types = ["A", "a b", "a:20b", "eventport:a:20b", "é", "e\u0301", ":"]
    assert len({carried_type(type_) for type_ in types if carried_type(type_) != type_}) == 3
    assert carried_type("a b") == "eventport:a:20b"
    assert carried_type("Plain.Type-1") == "Plain.Type-1"


async def test_a_cancelled_read_leaves_no_error_behind(store: EventStoreDBEventStore) -> None:
    """One that nobody looks at would be reported by the event loop, and fail this test."""
    for steps in range(200):
        async with anyio.create_task_group() as group:
            group.start_soon(store.read, "missing")
            for _ in range(steps % 50):
                await anyio.lowlevel.checkpoint()
            if steps > 100:
                await anyio.sleep(0.00002 * (steps - 100))
            group.cancel_scope.cancel()
    assert not (await store.read("missing")).exists
