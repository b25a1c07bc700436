"""The log records the commands of aggregates like those of handlers, in one commit."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import pytest

from tests.toolkit.accounts import TYPES, Deposited
from tests.toolkit.backends import WITH_SESSIONS, OpenStore
from tests.toolkit.logged import Add, adding, found, orders_of, placed
from tests.toolkit.orders import EVENTS, Order, RefusedError

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    Session,
    run_in_session,
)
from eventport.aggregates import AggregateExistsError, Repository, UnitOfWork
from eventport.command_log import CommandIdReusedError, CommandLog, LoggedResult
from eventport.context import bind_context, reacting_to

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.parametrize("backend", WITH_SESSIONS)


async def test_what_an_aggregate_saves_is_recorded_like_what_a_handler_decides(
    store: EventStore,
) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()
    (cause,) = (await store.read("order-1")).events
    with bind_context(user="ada", tenant="t", ip="bound"), reacting_to(cause):
        handled = await orders.handle(
            Add("1"), adding("1"), log=log, id=id_, metadata={"ip": "::1"}
        )
    assert (handled.status, handled.id, handled.result) == ("executed", id_, [1])
    (event,) = (await store.read("order-1", from_version=2)).events
    assert [each.id for each in handled.events] == [event.id]
    assert handled.position is not None
    assert handled.position >= event.position
    assert event.metadata == {
        "user": "ada",
        "tenant": "t",
        "ip": "::1",
        "command_id": str(id_),
        "correlation_id": str(cause.id),
        "causation_id": str(cause.id),
    }
    (record,) = await log.records(id_)
    assert (record.data.type, record.data.data) == ("Add", {"order": "1", "sku": "tea"})
    assert (record.data.stream, record.data.first_version) == ("order-1", 2)
    assert (record.data.user, record.data.causation_id) == ("ada", str(cause.id))
    assert record.data.cause is not None
    assert (record.data.cause.stream, record.data.cause.version) == ("order-1", 1)
    assert await log.command_of(event) == record
    assert await log.events_of(id_) == [event]
    assert await log.cause_of(record.data) == cause
    for records in (log.caused_by(cause), log.of_stream("order-1"), log.by_user("ada")):
        assert await found(records) == [record]


async def test_a_new_aggregate_and_a_changed_one_are_one_command(store: EventStore) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()

    async def split(work: UnitOfWork[Order]) -> None:
        (await work.load("1")).add("tea")
        work.add("2", Order.place("bob"))
        await work.session.append("audit", [NewEvent("Split", 1)])

    await orders.handle(Add("1"), split, log=log, id=id_)
    written = [(each.data.stream, each.data.first_version) for each in await log.records(id_)]
    assert sorted(written, key=str) == [("audit", 1), ("order-1", 2), ("order-2", 1)]
    events = await log.events_of(id_)
    assert sorted(event.type for event in events) == ["ItemAdded", "Placed", "Split"]
    for event in events:
        command = await log.command_of(event)
        assert command is not None
        assert (command.data.id, command.data.stream) == (id_, event.stream)


async def test_a_command_that_is_delivered_again_is_applied_once(store: EventStore) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()
    first = await orders.handle(Add("1"), adding("1"), log=log, id=id_)
    again = await orders.handle(Add("1"), adding("1"), log=log, id=id_)
    assert (again.status, again.result) == ("already applied", None)
    assert [event.id for event in again.events] == [event.id for event in first.events]
    assert again.position == (await store.read("order-1")).events[-1].position
    assert (await store.read("order-1")).version == 2
    with pytest.raises(CommandIdReusedError, match=str(id_)):
        await orders.handle(Add("1", "milk"), adding("1"), log=log, id=id_)
    assert (await store.read("order-1")).version == 2


async def test_of_deliveries_at_the_same_time_one_is_applied(
    open_store: OpenStore, store: EventStore
) -> None:
    await placed(store, "1")
    id_, handled = uuid4(), list[LoggedResult[Any]]()

    async def deliver(place: EventStore) -> None:
        log = CommandLog(place)
        handled.append(
            await orders_of(place).handle(Add("1"), adding("1"), log=log, id=id_, attempts=100)
        )

    async with open_store() as other:
        with no_hang():
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(deliver, (store, other)[number % 2])
    assert sorted(one.status for one in handled) == ["already applied"] * 9 + ["executed"]
    assert (await store.read("order-1")).version == 2
    assert len(await CommandLog(store).records(id_)) == 1


async def test_commands_on_one_aggregate_at_once_lose_no_change(store: EventStore) -> None:
    orders, log = await placed(store, "1"), CommandLog(store)

    async def add(number: int) -> None:
        command = adding("1", sku=f"sku-{number}")
        with bind_context(user="ada"):
            await orders.handle(Add("1"), command, log=log, attempts=100)

    with no_hang():
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(add, number)
    assert len((await orders.load("1")).items) == 10
    events = (await store.read("order-1", from_version=2)).events
    assert [record.data.first_version for record in await found(log.of_stream("order-1"))] == [
        event.version for event in events
    ]


async def test_what_raises_is_not_recorded(store: EventStore) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()
    shipped = await orders.load("1")
    shipped.ship()
    await orders.save(shipped)
    with pytest.raises(RefusedError):
        await orders.handle(Add("1"), adding("1"), log=log, id=id_)

    async def add_again(work: UnitOfWork[Order]) -> None:
        work.add("1", Order.place("bob"))

    with pytest.raises(AggregateExistsError):
        await orders.handle(Add("1"), add_again, log=log, id=id_)
    with pytest.raises(InvalidEventError, match=r"command .*: Add\.order"):
        await orders.handle(Add(7), lambda work: work.load("1"), log=log)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentTypeError, match=r"id must be a uuid\.UUID"):
        await orders.handle(Add("1"), adding("1"), log=log, id="x")  # type: ignore[arg-type]
    assert await log.records(id_) == []
    assert await found(log.of_stream("order-1")) == []
    assert (await store.read("order-1")).version == 2


async def test_several_repositories_and_handlers_share_a_session(store: EventStore) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()
    carts = Repository(store, "cart", Order, EVENTS)
    await carts.add("1", Order.place("ada"))

    async def both(session: Session) -> None:
        for repository in (orders, carts):
            async with repository.unit_of_work(session) as work:
                (await work.load("1")).add("tea")
        await TYPES.on(session).append("account-1", [Deposited(5)])

    handled = await log.handle(Add("1"), both, id=id_)
    assert [each.data.stream for each in await log.records(id_)] == [
        "order-1",
        "cart-1",
        "account-1",
    ]
    assert len(handled.events) == 3

    async def in_a_session_of_the_callers(session: Session) -> LoggedResult[Any]:
        await session.append("own", [NewEvent("T", 1)])
        return await orders.handle(Add("1"), adding("1"), log=log, session=session)

    nested = await run_in_session(store, in_a_session_of_the_callers)
    assert nested.position is None
    (own,) = (await store.read("own")).events
    assert own.metadata == {}
    assert [each.data.stream for each in await log.records(nested.id)] == ["order-1"]


async def test_what_is_saved_is_saved_in_the_store_of_the_repository(store: EventStore) -> None:
    async with MemoryEventStore() as elsewhere:
        orders, log, id_ = await placed(store, "1"), CommandLog(elsewhere), uuid4()
        await orders.handle(Add("1"), adding("1"), log=log, id=id_)
        assert (await store.read("order-1")).version == 2
        assert [each.data.stream for each in await CommandLog(store).records(id_)] == ["order-1"]
        assert (await elsewhere.read_all()).events == []


async def test_a_conflict_of_the_callers_session_leaves_no_record(store: EventStore) -> None:
    orders, log, id_ = await placed(store, "1"), CommandLog(store), uuid4()
    with pytest.raises(ConcurrencyError):  # noqa: PT012  # the block is what is tested
        async with store.session() as session:
            await orders.handle(Add("1"), adding("1"), log=log, id=id_, session=session)
            await store.append("order-1", [EVENTS.new(Order.place("x").pending_events[0])])
    assert await log.records(id_) == []
    assert await found(log.of_stream("order-1")) == []
