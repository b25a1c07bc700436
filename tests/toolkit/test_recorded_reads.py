"""The log records what a command has read, also if it decides nothing, and what followed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from tests.toolkit.accounts import ACCOUNT, TYPES, Deposit, Deposited, Withdraw
from tests.toolkit.backends import WITH_SESSIONS
from tests.toolkit.logged import Add, found, placed
from tests.toolkit.orders import Order

from eventport import Capability, EventStore, Match, NewEvent, Query, Session
from eventport.aggregates import UnitOfWork
from eventport.command_log import CommandIdReusedError, CommandLog
from eventport.commands import CommandHandler, Decider
from eventport.context import bind_context, reacting_to
from eventport.typed import EventTypes


pytestmark = pytest.mark.parametrize("backend", WITH_SESSIONS)


async def test_a_handler_that_decides_nothing_is_recorded(store: EventStore) -> None:
    log, id_ = CommandLog(store), uuid4()
    handler = CommandHandler(store, ACCOUNT, log=log)
    with bind_context(user="ada"):
        first = await handler.handle("account-1", Deposit(0), id=id_)
        again = await handler.handle("account-1", Deposit(0), id=id_)
    assert (first.status, first.events, first.position) == ("executed", (), None)
    assert (again.status, again.events, again.position) == ("already applied", [], None)
    (record,) = await log.records(id_)
    assert (record.data.stream, record.data.first_version, record.data.events) == (
        "account-1",
        None,
        [],
    )
    assert await log.events_of(id_) == []
    assert await found(log.of_stream("account-1")) == [record]
    assert await found(log.by_user("ada")) == [record]
    assert not (await store.read("account-1")).exists
    with pytest.raises(CommandIdReusedError):
        await handler.handle("account-1", Deposit(5), id=id_)
    await handler.handle("account-1", Deposit(5))
    assert (await handler.handle("account-1", Deposit(0), id=id_)).status == "already applied"


async def test_a_boundary_that_decides_nothing_is_recorded(store: EventStore) -> None:
    if Capability.CONDITIONS not in store.capabilities:
        pytest.skip("no boundaries here; those that have them are tested")
    types = EventTypes[Deposited](Deposited)
    decider = Decider[int, Deposit, Deposited](
        types=types,
        initial=int,
        evolve=lambda state, event: state + event.amount,
        decide=lambda command, _: [],
        boundary=lambda _: Query.of(Match(types=frozenset({"Deposited"}))),
    )
    log, id_ = CommandLog(store), uuid4()
    handler = CommandHandler(store, decider, log=log)
    first = await handler.handle("account-1", Deposit(5), id=id_)
    again = await handler.handle("account-1", Deposit(5), id=id_)
    assert (first.status, again.status) == ("executed", "already applied")
    assert len(await found(log.of_stream("account-1"))) == 1


async def test_an_aggregate_that_is_not_changed_is_recorded_with_what_was_read(
    store: EventStore,
) -> None:
    orders, log, id_ = await placed(store, "1", "2"), CommandLog(store), uuid4()

    async def look(work: UnitOfWork[Order]) -> str:
        (order,) = await work.load_many(["2"])
        return order.customer

    first = await orders.handle(Add("2"), look, log=log, id=id_)
    again = await orders.handle(Add("2"), look, log=log, id=id_)
    assert (first.status, first.result, first.events) == ("executed", "ada", [])
    assert (again.status, again.result, again.events) == ("already applied", None, [])
    (record,) = await found(log.of_stream("order-2"))
    assert (record.data.id, record.data.events) == (id_, [])
    assert await found(log.of_stream("order-1")) == []


async def test_all_ways_to_read_count_as_read(store: EventStore) -> None:
    log = CommandLog(store)

    async def look(session: Session) -> None:
        await session.read("a")
        await session.read(stream="b", max_count=0)
        assert [event async for event in session.iterate("c")] == []
        await session.aggregate("d", lambda state, _: state, int)
        await session.read_many(name for name in ("e", "a"))
        await session.aggregate_many(["f"], lambda state, _: state, int)
        await session.read("eventport/key/email/x")

    handled = await log.handle(Add("1"), look)
    seen = [each.data.stream for each in await log.records(handled.id)]
    assert seen == ["a", "b", "c", "d", "e", "f"]


async def test_a_command_that_reads_nothing_is_recorded_for_no_stream(store: EventStore) -> None:
    log, id_ = CommandLog(store), uuid4()

    async def nothing(_: Session) -> int:
        return 7

    assert (await log.handle(Add("1"), nothing, id=id_)).result == 7
    (record,) = await log.records(id_)
    assert (record.data.stream, record.data.events) == (None, [])
    with pytest.raises(CommandIdReusedError, match=r"^another command was applied"):
        await log.handle(Add("2"), nothing, id=id_)


async def test_what_followed_from_an_event_is_found_step_by_step(store: EventStore) -> None:
    log = CommandLog(store)
    accounts = CommandHandler(store, ACCOUNT, log=log)
    await accounts.handle("account-1", Deposit(5))
    (first,) = (await store.read("account-1")).events
    with reacting_to(first):
        await accounts.handle("account-2", Deposit(1))
        await accounts.handle("account-3", Deposit(0))
    (second,) = (await store.read("account-2")).events
    with reacting_to(second):
        await accounts.handle("account-2", Withdraw(1))
    followed = await found(log.caused_by(first))
    assert [record.data.stream for record in followed] == ["account-2", "account-3"]
    backwards = await found(log.caused_by(str(first.id), backwards=True))
    assert backwards == followed[::-1]
    assert await found(log.caused_by(uuid4())) == []

    # And back to where it began.
    (*_, last) = (await store.read("account-2")).events
    path: list[tuple[str, int]] = []
    event = last
    while (command := await log.command_of(event)) and (led := await log.cause_of(command.data)):
        path.append((led.stream, led.version))
        event = led
    assert path == [("account-2", 1), ("account-1", 1)]


async def test_a_message_from_outside_is_a_cause_without_a_place(store: EventStore) -> None:
    log = CommandLog(store)
    accounts = CommandHandler(store, ACCOUNT, log=log)
    await store.append("a", [NewEvent("T", 1)])
    (event,) = (await store.read("a")).events
    with reacting_to(event), bind_context(causation_id="message/1"):
        await accounts.handle("account-1", Deposit(5))
    (record,) = await found(log.caused_by("message/1"))
    assert record.data.cause is None
    assert await log.cause_of(record.data) is None


async def test_a_store_from_before_the_lists_is_read(store: EventStore) -> None:
    """Records without a cause, as they were written before there was one."""
    log, id_, event = CommandLog(store), UUID(int=7), TYPES.new(Deposited(5))
    await store.append("account-1", [event])
    old = {
        "id": str(id_),
        "type": "Deposit",
        "data": {"amount": 5},
        "user": None,
        "correlation_id": "c",
        "causation_id": None,
        "stream": "account-1",
        "first_version": 1,
        "events": [str(event.id)],
    }
    await store.append(f"eventport/command/{id_}", [NewEvent("eventport.CommandRecorded", old)])
    (record,) = await log.records(id_)
    assert record.data.cause is None
    assert [each.id for each in await log.events_of(id_)] == [event.id]


async def test_the_records_of_a_list_are_read_together(store: EventStore) -> None:
    handler = CommandHandler(store, ACCOUNT, log=CommandLog(store))
    ids = [uuid4() for _ in range(20)]
    with bind_context(user="ada"):
        for id_ in ids:
            await handler.handle(f"account-{id_}", Deposit(5), id=id_)
    calls = list[int]()

    class Counting:
        """The store; it notes how many streams are read in each call."""

        def __init__(self) -> None:
            self.iterate, self.capabilities = store.iterate, store.capabilities

        async def read_many(self, streams: Iterable[str]) -> Any:
            names = list(streams)
            calls.append(len(names))
            return await store.read_many(names)

    counting = CommandLog(cast("EventStore", Counting()))
    assert [record.data.id async for record in counting.by_user("ada")] == ids
    assert calls == [1, 2, 4, 8, 5]
