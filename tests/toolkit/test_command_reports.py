"""What others reported of commands and their causes, replayed here.

The reports are listed in docs/reports-of-others.md.
"""

from __future__ import annotations

import asyncio

from typing import Any
from uuid import UUID, uuid4

import pytest

from anyio import create_task_group, sleep
from tests.toolkit.accounts import ACCOUNT, Deposit, Withdraw
from tests.toolkit.backends import OpenStore
from tests.toolkit.orders import EVENTS, Order

from eventport import ConcurrencyError, EventStore, NewEvent, Session
from eventport.aggregates import AggregateExistsError, Repository, UnitOfWork
from eventport.command_log import CommandLog
from eventport.commands import CommandHandler
from eventport.context import bind_context
from eventport.projections import MemoryCheckpoints, Projection, Runner

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.parametrize("backend", ["memory", "sqlite"])


async def test_creating_what_exists_is_refused_at_once(store: EventStore) -> None:
    """Nobody can try that again with success."""
    orders, log, tries = Repository(store, "order", Order, EVENTS), CommandLog(store), list[int]()
    await orders.add("1", Order.place("ada"))

    async def create(work: UnitOfWork[Order]) -> None:
        tries.append(1)
        work.add("1", Order.place("bob"))

    with pytest.raises(AggregateExistsError):
        await orders.handle("create", create, log=log, attempts=100)
    assert len(tries) == 1


async def test_requests_of_two_processes_to_one_aggregate_all_take_effect(
    open_store: OpenStore,
) -> None:
    async with open_store() as first, open_store() as second:
        await Repository(first, "order", Order, EVENTS).add("1", Order.place("ada"))

        async def request(store: EventStore, number: int) -> None:
            async def add(work: UnitOfWork[Order]) -> None:
                (await work.load("1")).add(f"sku-{number}")

            orders = Repository(store, "order", Order, EVENTS)
            await orders.handle("add", add, log=CommandLog(store), attempts=1000)

        with no_hang():
            async with create_task_group() as group:
                for number in range(20):
                    group.start_soon(request, (first, second)[number % 2], number)
        order = await Repository(first, "order", Order, EVENTS).load("1")
        assert len(order.items) == 20


async def test_a_command_that_always_conflicts_ends_and_the_next_one_works(
    store: EventStore,
) -> None:
    log, tries = CommandLog(store), list[int]()

    async def disturbed(session: Session) -> None:
        tries.append(1)
        seen = (await session.read("s")).version
        await store.append("s", [NewEvent("Rival", seen)])
        await session.append("s", [NewEvent("Own", seen)])

    with no_hang(), pytest.raises(ConcurrencyError):
        await log.handle("disturbed", disturbed, attempts=5)
    assert len(tries) == 5

    async def calm(session: Session) -> None:
        await session.append("s", [NewEvent("Own", 1)])

    await log.handle("calm", calm)
    assert [event.type for event in (await store.read("s")).events] == ["Rival"] * 5 + ["Own"]


async def test_all_that_follows_from_a_request_keeps_its_correlation_and_its_cause(
    store: EventStore,
) -> None:
    """From a command to its event, a reaction, its command, and on: and tasks that begin later."""
    log = CommandLog(store)
    accounts = CommandHandler(store, ACCOUNT, log=log)
    reactions = Projection[Any]("reactions", prefix="account-")

    @reactions.on("Deposited")
    async def react(event: Any, _: Any) -> None:
        if event.data["amount"] > 1:
            with bind_context(tenant=event.metadata["tenant"]):
                next_ = Deposit(event.data["amount"] - 1)
                await accounts.handle(f"account-{next_.amount}", next_, id=uuid4())

    started: list[asyncio.Task[Any]] = []
    with bind_context(correlation_id="request-1", tenant="t"):

        async def later() -> None:
            await sleep(0.01)
            await accounts.handle("account-4", Deposit(4))

        started.append(asyncio.create_task(later()))
    await started[0]
    runner = Runner(store, reactions, MemoryCheckpoints())
    with no_hang():
        async with create_task_group() as group:
            group.start_soon(runner.run)
            while not (await store.read("account-1", max_count=0)).exists:  # noqa: ASYNC110  # none
                await sleep(0.005)
            group.cancel_scope.cancel()
    (event,) = (await store.read("account-1")).events
    path: list[str] = []
    while True:
        assert (event.metadata["correlation_id"], event.metadata["tenant"]) == ("request-1", "t")
        path.append(event.stream)
        command = await log.command_of(event)
        assert command is not None
        assert command.data.correlation_id == "request-1"
        cause = await log.cause_of(command.data)
        if cause is None:
            break
        assert [each.data.id async for each in log.caused_by(cause)] == [command.data.id]
        event = cause
    assert path == ["account-1", "account-2", "account-3", "account-4"]


async def test_the_events_of_a_command_are_all_written_in_order_or_none(
    store: EventStore,
) -> None:
    log = CommandLog(store)
    accounts = CommandHandler(store, ACCOUNT, log=log)
    await accounts.handle("account-1", Deposit(5))
    handled = await accounts.handle("account-1", Withdraw(5), id=(id_ := uuid4()))
    events = (await store.read("account-1", from_version=2)).events
    assert [(event.version, event.type) for event in events] == [(2, "Withdrawn"), (3, "Emptied")]
    assert [event.id for event in handled.events] == [event.id for event in events]
    assert [event.id for event in await log.events_of(id_)] == [event.id for event in events]

    async def half(session: Session) -> None:
        await session.append("a", [NewEvent("T", 1)])
        await session.append("b", [NewEvent("T", 1), NewEvent("T", float("nan"))])

    with pytest.raises(ValueError, match="not a number"):
        await log.handle("half", half)
    assert not (await store.read("a")).exists
    assert not (await store.read("b")).exists


async def test_a_command_whose_class_is_gone_is_still_in_the_log(store: EventStore) -> None:
    log, id_ = CommandLog(store), UUID(int=7)

    async def nothing(session: Session) -> None:
        await session.append("s", [NewEvent("T", 1)])

    async def define_and_handle() -> None:
        from dataclasses import dataclass  # noqa: PLC0415  # the class ends with the function

        @dataclass
        class Forgotten:
            text: str

        await log.handle(Forgotten("x"), nothing, id=id_)

    await define_and_handle()
    (event,) = (await store.read("s")).events
    record = await log.command_of(event)
    assert record is not None
    assert (record.data.type, record.data.data) == ("Forgotten", {"text": "x"})
    assert [each.data.type async for each in log.of_stream("s")] == ["Forgotten"]


async def test_a_unit_of_work_in_another_one_never_changes_the_order_of_events(
    store: EventStore,
) -> None:
    """What the outer one has not appended yet, the inner one does not see: that is a conflict."""
    orders = Repository(store, "order", Order, EVENTS)
    await orders.add("1", Order.place("ada"))

    async def nested(session: Session, *, of_one: bool) -> None:
        async with orders.unit_of_work(session) as outer:
            (await outer.load("1")).add("first")
            if of_one:
                (await outer.load("1")).add("second")
                return
            async with orders.unit_of_work(session) as inner:
                (await inner.load("1")).add("second")

    with pytest.raises(ConcurrencyError):
        async with store.session() as session:
            await nested(session, of_one=False)
    async with store.session() as session:
        await nested(session, of_one=True)
    events = (await store.read("order-1")).events
    assert [event.data.get("sku") for event in events] == [None, "first", "second"]
