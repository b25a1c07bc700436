"""A small domain for the tests of commands: accounts that never fall below zero."""

from __future__ import annotations

from dataclasses import dataclass

from eventport.commands import Decider
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
