"""A small domain for the tests of commands: accounts that never fall below zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from eventport import EventStore, Streams
from eventport.commands import CommandHandler, Decider
from eventport.folding import Fold, replay
from eventport.results import AggregateResult
from eventport.typed import EventTypes


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True)
class Emptied:
    pass


AccountCommand = Deposit | Withdraw
AccountEvent = Deposited | Withdrawn | Emptied


class NotEnoughMoneyError(Exception):
    pass


def decide(command: AccountCommand, balance: int) -> list[AccountEvent]:
    match command:
        case Deposit(0) | Withdraw(0):
            return []
        case Deposit(amount):
            return [Deposited(amount)]
        case Withdraw(amount) if amount > balance:
            raise NotEnoughMoneyError
        case Withdraw(amount) if amount == balance:
            return [Withdrawn(amount), Emptied()]
        case Withdraw(amount):
            return [Withdrawn(amount)]


def evolve(balance: int, event: AccountEvent) -> int:
    match event:
        case Deposited(amount):
            return balance + amount
        case Withdrawn(amount):
            return balance - amount
        case Emptied():
            return 0


TYPES = EventTypes[AccountEvent](Deposited, Withdrawn, Emptied)
ACCOUNT = Decider(types=TYPES, initial=int, evolve=evolve, decide=decide)


S = TypeVar("S")


E = TypeVar("E")


def accounts(
    store: EventStore, **options: Any
) -> CommandHandler[int, AccountCommand, AccountEvent]:
    return CommandHandler(store, ACCOUNT, **options)


async def data(store: EventStore, stream: str) -> list[AccountEvent]:
    return [TYPES.decode(event) for event in (await store.read(stream)).events]


@dataclass
class Meddling:
    """A loader that lets another writer commit right after each of the first loads."""

    store: EventStore
    times: int
    loads: int = 0
    seen: list[object] = field(default_factory=list[object])

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        loaded = await replay.load(streams, stream, fold, to_version=to_version)
        self.loads += 1
        self.seen.append(loaded.state)
        if self.loads <= self.times:
            await self.store.append(stream, [TYPES.new(Deposited(1000))])
        return loaded
