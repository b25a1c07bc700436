"""A small domain for the tests of snapshots: accounts whose balance moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from eventport import EventStore
from eventport.folding import Fold
from eventport.snapshots import Snapshot
from eventport.typed import EventTypes
from eventport.typed.shape import shape_of


@dataclass(frozen=True)
class Moved:
    amount: int


@dataclass
class Account:
    """It changes in place, as the states of many programs do."""

    balance: int = 0
    largest: int = 0
    seen: set[int] = field(default_factory=set[int])


def evolve(account: Account, event: Moved) -> Account:
    account.balance += event.amount
    account.largest = max(account.largest, event.amount)
    account.seen.add(event.amount)
    return account


ACCOUNT = Fold(EventTypes[Moved](Moved), Account, evolve)


STREAM = "account-1"


async def move(store: EventStore, *amounts: int, stream: str = STREAM) -> None:
    await store.append(stream, [ACCOUNT.types.new(Moved(amount)) for amount in amounts])


def kept(
    version: int, event_id: Any = None, state: bytes = b"{}", stream: str = STREAM
) -> Snapshot:
    return Snapshot(stream, version, event_id or uuid4(), f"Account {shape_of(Account)} 1", state)
