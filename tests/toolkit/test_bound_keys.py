"""Keys that a program binds reach the metadata of all that is appended inside, on every backend."""

from __future__ import annotations

import inspect

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

import anyio
import pytest

from tests.toolkit.accounts import ACCOUNT, TYPES, Deposit, Deposited
from tests.toolkit.backends import WITH_SESSIONS, OpenStore
from tests.toolkit.orders import EVENTS, Order

from eventport import (
    BoundaryError,
    Capability,
    CopiedEvent,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    Match,
    NewEvent,
    Query,
    Session,
    Streams,
    run_in_session,
)
from eventport.aggregates import Repository
from eventport.callbacks import HookStore, InlineStore
from eventport.command_log import CommandLog
from eventport.commands import CommandHandler
from eventport.context import bind_context, current_context, with_context
from eventport.keys import UniqueKeys
from eventport.projections import open_checkpoints
from eventport.toolkit_streams import is_toolkit_stream

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


BOUND = {"user": "ada", "ip": "::1", "tenant": {"id": 7, "flags": [True, None]}}

with_sessions = pytest.mark.parametrize("backend", WITH_SESSIONS)


async def last(streams: Streams, stream: str) -> dict[str, Any]:
    return (await streams.read(stream, backwards=True, max_count=1)).events[0].metadata


async def by_handler(store: EventStore) -> None:
    await CommandHandler(store, ACCOUNT).handle("account-1", Deposit(5))


async def by_a_gate(store: EventStore) -> None:
    await CommandHandler(store, ACCOUNT, gate=True).handle("account-1", Deposit(5))


async def by_repository(store: EventStore) -> None:
    orders = Repository(store, "account", Order, EVENTS)
    await orders.add("1", Order.place("ada"))


async def by_unit_of_work(store: EventStore) -> None:
    async with Repository(store, "account", Order, EVENTS).unit_of_work() as work:
        work.add("1", Order.place("ada"))


async def by_typed_store(store: EventStore) -> None:
    await TYPES.on(store).append("account-1", [Deposited(5)])


async def by_typed_session(store: EventStore) -> None:
    async with store.session() as session:
        await TYPES.on(session).append("account-1", [Deposited(5)])


async def plainly(store: EventStore) -> None:
    await with_context(store).append("account-1", [NewEvent("T", 1)])


async def in_a_session(store: EventStore) -> None:
    async def write(session: Session) -> None:
        await session.append("account-1", [NewEvent("T", 1)])
        assert (await last(session, "account-1"))["ip"] == "::1"

    await run_in_session(with_context(store), write)


WAYS = [
    by_handler,
    by_a_gate,
    by_repository,
    by_unit_of_work,
    by_typed_store,
    by_typed_session,
    plainly,
    in_a_session,
]


@pytest.mark.parametrize("way", WAYS)
async def test_all_that_the_toolkit_appends_has_what_is_bound(
    store: EventStore, way: Callable[[EventStore], Coroutine[Any, Any, None]]
) -> None:
    with no_hang(), bind_context(**cast("Any", BOUND)):
        async with anyio.create_task_group() as group:
            group.start_soon(way, store)
    found = await last(store, "account-1")
    assert {key: found[key] for key in BOUND} == BOUND


async def test_a_plain_store_adds_nothing(store: EventStore) -> None:
    with bind_context(**cast("Any", BOUND)):
        await store.append("a", [NewEvent("T", 1, {"own": 1})])
        async with store.session() as session:
            await session.append("b", [NewEvent("T", 1)])
    assert (await last(store, "a"), await last(store, "b")) == ({"own": 1}, {})


@with_sessions
async def test_the_streams_of_the_toolkit_keep_their_records_as_they_are(
    store: EventStore,
) -> None:
    wrapped = with_context(store)
    log = CommandLog(wrapped, hashed=True)
    emails = UniqueKeys("email")
    with bind_context(user="ada@example.org", tenant="t"):
        await CommandHandler(wrapped, ACCOUNT, log=log).handle("account-1", Deposit(5))
        async with wrapped.session() as session:
            await session.append("b", [NewEvent("T", 1)])
            await emails.claim(session, "x", owner="b")
    assert (await last(store, "account-1"))["tenant"] == "t"
    assert (await last(store, "b"))["user"] == "ada@example.org"
    own = [event async for event in store.iterate_all() if is_toolkit_stream(event.stream)]
    assert len(own) >= 3
    for event in own:
        is_record = event.stream.startswith("eventport/command/")
        assert event.metadata == ({"tenant": "t"} if is_record else {})


@with_sessions
async def test_a_log_that_hashes_users_hides_them_in_events_too(store: EventStore) -> None:
    log = CommandLog(store, hashed=True)
    with bind_context(user="ada@example.org", tenant="t"):
        await CommandHandler(store, ACCOUNT, log=log).handle("account-1", Deposit(5), id=uuid4())
    (event,) = (await store.read("account-1")).events
    record = await log.command_of(event)
    assert record is not None
    assert event.metadata["user"] == record.data.user
    assert event.metadata["tenant"] == "t"
    assert record.metadata == {"tenant": "t"}
    assert "ada@" not in f"{event.metadata}"


async def test_what_is_given_for_an_event_wins_over_what_is_bound(store: EventStore) -> None:
    orders = Repository(store, "order", Order, EVENTS)
    own = {"ip": "mine", "correlation_id": "mine"}
    with bind_context(correlation_id="request-1", **cast("Any", BOUND)):
        await TYPES.on(store).append("a", [Deposited(1)], metadata=own)
        await CommandHandler(store, ACCOUNT).handle("b", Deposit(1), metadata=own)
        await with_context(store).append("c", [NewEvent("T", 1, own)])
        order = Order.place("ada")
        await orders.add("1", order, metadata=own)
        order.add("tea")
        await orders.save(order, metadata=own)
        async with orders.unit_of_work(metadata=own) as work:
            (await work.load("1")).add("cup")
    seen = [await last(store, stream) for stream in ("a", "b", "c")]
    seen += [event.metadata for event in (await store.read("order-1")).events]
    assert len(seen) == 6
    for metadata in seen:
        assert (metadata["ip"], metadata["correlation_id"]) == ("mine", "mine")
        assert metadata["user"] == "ada"


async def test_metadata_of_a_repository_needs_nothing_bound(store: EventStore) -> None:
    orders = Repository(store, "order", Order, EVENTS)
    await orders.add("1", Order.place("ada"), metadata={"batch": 7})
    assert await last(store, "order-1") == {"batch": 7}
    with pytest.raises(InvalidArgumentTypeError, match="metadata must be a dict"):
        await orders.add("2", Order.place("bob"), metadata=cast("Any", 7))
    assert not (await store.read("order-2")).exists


async def test_a_copy_stays_as_it_was(store: EventStore) -> None:
    await store.append("a", [NewEvent("T", 1)])
    (event,) = (await store.read("a")).events
    if Capability.TIMES not in store.capabilities:
        return  # it takes no copies
    async with MemoryEventStore() as other:
        with bind_context(**cast("Any", BOUND)):
            await with_context(other).append("a", [CopiedEvent.of(event)])
        assert (await other.read("a")).events[0].metadata == {}


async def test_the_other_methods_are_those_of_the_store(
    open_store: OpenStore, store: EventStore
) -> None:
    wrapped = with_context(store)
    assert wrapped.capabilities == store.capabilities
    tagged = Query.of(Match(tags=frozenset({"x:1"})))
    event = NewEvent("T", {"n": 1}, tags=frozenset({"x:1"}))
    with bind_context(tenant="t"):
        if Capability.CONDITIONS in store.capabilities:
            seen = await wrapped.query(tagged)
            await wrapped.append("a", [event], unless=tagged, since=seen.token)
            async with wrapped.session() as session:
                await session.require("a", 1)
                assert len((await session.query(tagged)).events) == 1
                await session.append("b", [NewEvent("T", 2)])
            assert session.position == (await store.read("b")).events[0].position
            with pytest.raises(BoundaryError):
                await wrapped.append("a", [NewEvent("T", 3)], unless=tagged, since=seen.token)
        else:
            await wrapped.append("a", [event], expected=0)
            await wrapped.append("b", [NewEvent("T", 2)])
    (found,) = (await wrapped.read("a", expected=1)).events
    assert (found.tags, found.metadata) == (event.tags, {"tenant": "t"})
    assert [each.id async for each in wrapped.iterate("a")] == [event.id]
    assert (await wrapped.aggregate("a", lambda n, _: n + 1, int)).state == 1
    assert [*await wrapped.read_many(["b", "a"])] == ["b", "a"]
    assert [each.stream for each in (await wrapped.read_all()).events] == ["a", "b"]
    assert [each.stream async for each in wrapped.iterate_all(prefix="b")] == ["b"]
    if Capability.CATALOGUE in store.capabilities:
        assert [each.stream for each in await wrapped.streams()] == ["a", "b"]
    async with wrapped.subscribe(stream="b") as events:
        with no_hang():
            assert (await anext(events)).stream == "b"
    async with open_store() as opened, with_context(opened) as entered:
        assert (await entered.read("a")).exists
        await entered.aclose()


async def test_the_parts_that_only_some_stores_have_are_found(store: EventStore) -> None:
    wrapped = with_context(store)
    assert isinstance(wrapped, HookStore)
    assert isinstance(wrapped, InlineStore) == isinstance(store, InlineStore)
    assert getattr(wrapped, "store_id", None) == getattr(store, "store_id", None)
    async with open_checkpoints(store) as own, open_checkpoints(wrapped) as found:
        assert type(found) is type(own)


def test_no_method_of_the_protocol_is_hidden() -> None:
    wrapped = with_context(MemoryEventStore())
    for protocol, of in ((EventStore, wrapped), (Streams, wrapped)):
        for name, member in inspect.getmembers(protocol, inspect.isfunction):
            if not name.startswith("_"):
                given = inspect.signature(member).parameters.keys() - {"self"}
                assert inspect.signature(getattr(of, name)).parameters.keys() == given, name


@pytest.mark.parametrize(
    "events", [NewEvent("T", 1), "text", [1], 7, None, [NewEvent("T", 1, cast("Any", 7))]]
)
async def test_bad_events_are_refused_as_by_the_store(events: Any) -> None:
    async with MemoryEventStore() as store:
        refused: list[str] = []
        for each in (store, with_context(store)):
            with (
                bind_context(tenant="t"),
                pytest.raises((InvalidArgumentTypeError, InvalidEventError)) as caught,
            ):
                await each.append("a", events)
            refused.append(f"{type(caught.value)} {caught.value}")
        assert refused[0] == refused[1]
        assert not (await store.read("a")).exists


# What can be bound.


def test_inner_blocks_add_and_replace_and_none_leaves_a_key_alone() -> None:
    with bind_context(tenant="a", ip="::1"):
        with bind_context(tenant="b", request=cast("Any", None), ip=None):
            assert current_context().metadata == {"tenant": "b", "ip": "::1"}
        assert current_context().metadata == {"tenant": "a", "ip": "::1"}
    assert current_context().metadata == {}


def test_what_is_bound_is_a_copy_and_so_is_what_is_returned() -> None:
    flags = ["x"]
    with bind_context(flags=flags):
        flags.append("y")
        current_context().metadata["flags"].append("z")
        assert current_context().metadata == {"flags": ["x"]}


def test_a_uuid_becomes_text() -> None:
    with bind_context(request=UUID(int=7)) as context:
        assert context.metadata == {"request": str(UUID(int=7))}


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 1), b"x", (1, 2), {1: 2}, 2**63, float("nan"), "\ud800", object()],  # noqa: DTZ001  # as users do
)
def test_a_value_that_is_no_json_is_refused_when_it_is_bound(value: object) -> None:
    with (
        pytest.raises(InvalidEventError, match=r"bind_context: metadata\['tenant'\]") as caught,
        bind_context(tenant=value),
    ):
        pass
    assert "2026" not in str(caught.value)
    assert current_context().metadata == {}


@pytest.mark.parametrize("key", ["command_id", "command_hash", "schema_version"])
def test_a_key_that_events_set_themselves_is_refused(key: str) -> None:
    with (
        pytest.raises(InvalidArgumentError, match=f"'{key}' cannot be bound"),
        bind_context(**{key: cast("Any", "x")}),
    ):
        pass
