"""What type checkers infer of typed events and commands, and what they have to refuse."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_type
from uuid import UUID

from eventport import AggregateResult, EventStore, NewEvent, ReadResult, RecordedEvent, Session
from eventport.command_log import CommandLog, CommandRecord, LoggedResult
from eventport.commands import CommandHandler, CommandResult, Decider
from eventport.context import Cause, bind_context, reacting_to, with_context
from eventport.folding import Fold, StateLoader, replay
from eventport.typed import EventTypes, TypedStore, TypedStreams


class AccountEvent:
    """What the events have in common."""


@dataclass
class Opened(AccountEvent):
    owner: str


@dataclass
class Deposited(AccountEvent):
    amount: int


@dataclass
class Deposit:
    amount: int


def decide(command: Deposit, balance: int) -> Iterator[Deposited]:
    yield Deposited(command.amount)


def evolve(balance: int, event: AccountEvent) -> int:
    return balance + event.amount if isinstance(event, Deposited) else balance


TYPES = EventTypes[AccountEvent](Opened, Deposited)
UNION = EventTypes[Opened | Deposited](Opened, Deposited)
ACCOUNT = Decider(types=TYPES, initial=int, evolve=evolve, decide=decide)


def stored_events_are_of_any_type(event: RecordedEvent) -> None:
    assert_type(event, RecordedEvent[Any])
    assert_type(event.data, Any)


def typed_events_have_data_of_their_type(event: RecordedEvent) -> None:
    assert_type(TYPES.typed(event), RecordedEvent[AccountEvent])
    assert_type(UNION.typed(event), RecordedEvent[Opened | Deposited])
    assert_type(UNION.decode(event), Opened | Deposited)
    match UNION.typed(event).data:
        case Opened(owner):
            assert_type(owner, str)
        case Deposited(amount):
            assert_type(amount, int)
    assert_type(TYPES.new(Opened("ada")), NewEvent)


async def typed_stores_return_and_take_their_events(store: EventStore, session: Session) -> None:
    accounts = UNION.on(store)
    assert_type(accounts, TypedStore[Opened | Deposited])
    assert_type(await accounts.read("a"), ReadResult[Opened | Deposited])
    assert_type((await accounts.read("a")).events[0].data, Opened | Deposited)
    assert_type((await accounts.read_all()).events, list[RecordedEvent[Opened | Deposited]])
    async for event in accounts.iterate("a"):
        assert_type(event, RecordedEvent[Opened | Deposited])
    async for event in accounts.iterate_all():
        assert_type(event.data, Opened | Deposited)
    async with accounts.subscribe() as subscription:
        async for event in subscription:
            assert_type(event.data, Opened | Deposited)
    assert_type(UNION.on(session), TypedStreams[Opened | Deposited])
    await accounts.append("a", [Opened("ada"), Deposited(5)])
    await accounts.append("a", [Deposit(5)])  # type: ignore[list-item]  # no event
    assert_type((await store.read("a")).events[0].data, Any)


def encodings_fit_their_class() -> None:
    TYPES.register(Opened, encode=lambda event: event.owner.encode(), decode=lambda _: Opened(""))
    TYPES.register(Opened, encode=len, decode=lambda _: Opened(""))  # type: ignore[arg-type]  # it has no length


def a_typed_event_is_one_of_a_wider_type(event: RecordedEvent[Deposited]) -> int:
    wider: RecordedEvent[AccountEvent] = event
    untyped: RecordedEvent = event
    return event.data.amount + wider.version + untyped.version


def classes_keep_their_type_where_they_are_registered() -> None:
    @TYPES.register(name="AccountClosed", version=2, upcasters={1: lambda data: data})
    @dataclass
    class Closed(AccountEvent):
        reason: str

    @TYPES.register
    @dataclass
    class Frozen(AccountEvent):
        days: int

    assert_type(Closed("moved").reason, str)
    assert_type(Frozen(3).days, int)


async def states_have_their_type(store: EventStore, session: Session) -> None:
    fold = Fold(TYPES, int, evolve)
    assert_type(fold, Fold[int, AccountEvent])
    assert_type(await replay.load(store, "account-1", fold), AggregateResult[int])
    loader: StateLoader = replay
    assert_type((await loader.load(session, "account-1", ACCOUNT.fold)).state, int)


async def commands_and_states_have_their_type(store: EventStore) -> None:
    assert_type(ACCOUNT.fold, Fold[int, AccountEvent])
    log = CommandLog(store)
    handler = CommandHandler(store, ACCOUNT, log=log)
    assert_type(handler, CommandHandler[int, Deposit, AccountEvent])
    handled = await handler.handle("account-1", Deposit(5))
    assert_type(handled, CommandResult[int])
    with bind_context(user="ada"), reacting_to(TYPES.typed((await store.read("a")).events[0])):
        async with store.session() as session:
            await handler.handle("account-1", Deposit(5), id=UUID(int=1), session=session)
    assert_type(with_context(store), EventStore)

    async def function(_: Session) -> int:
        return 7

    assert_type(await log.handle(Deposit(5), function), LoggedResult[int])
    async for record in log.caused_by(UUID(int=1)):
        assert_type(record.data.cause, Cause | None)
    async for record in log.by_user("ada"):
        assert_type(record, RecordedEvent[CommandRecord])
        assert_type(record.data.events, list[UUID])


async def what_is_refused(
    store: EventStore, event: RecordedEvent, wide: RecordedEvent[AccountEvent]
) -> None:
    a_typed_event_is_one_of_a_wider_type(wide)  # type: ignore[arg-type]
    EventTypes[AccountEvent](Deposit)  # type: ignore[arg-type]
    TYPES.new(Deposit(5))  # type: ignore[arg-type]
    assert TYPES.typed(event).data.amount  # type: ignore[attr-defined]
    TYPES.register(name="Opened", version="2")  # type: ignore[call-overload]
    await CommandHandler(store, ACCOUNT).handle("a", Opened("ada"))  # type: ignore[arg-type]
    Decider(types=TYPES, initial=str, evolve=evolve, decide=decide)  # type: ignore[misc]
