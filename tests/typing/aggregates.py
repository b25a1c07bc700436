"""What type checkers infer of aggregates, snapshots and keys, and what they have to refuse."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_type

from eventport import EventStore, Session
from eventport.aggregates import Aggregate, Folded, Repository, UnitOfWork
from eventport.commands import Decider
from eventport.folding import StateLoader
from eventport.keys import UniqueKeys
from eventport.snapshots import (
    MemorySnapshotStore,
    Snapshots,
    SnapshotStore,
    StateCodec,
    StreamSnapshotStore,
)
from eventport.testing import specify
from eventport.typed import EventTypes


@dataclass
class Placed:
    customer: str


@dataclass
class Shipped:
    pass


EVENTS = EventTypes[Placed | Shipped](Placed, Shipped)


class Order(Aggregate[Placed | Shipped]):
    customer = ""

    def apply(self, event: Placed | Shipped) -> None:
        if isinstance(event, Placed):
            self.customer = event.customer

    def ship(self) -> None:
        self.record(Shipped())


def evolve(state: str, event: Placed | Shipped) -> str:
    return event.customer if isinstance(event, Placed) else state


def decide(command: int, state: str) -> list[Placed | Shipped]:
    return [Shipped()] if state else [Placed(str(command))]


ORDER = Decider(types=EVENTS, initial=str, evolve=evolve, decide=decide)


async def a_repository_gives_its_own_class(store: EventStore) -> None:
    orders = Repository(store, "order", Order, EVENTS)
    assert_type(orders, Repository[Order])
    assert_type(await orders.load("1"), Order)
    assert_type(await orders.load_many({"1", "2"}), list[Order])
    assert_type((await orders.load("1")).pending_events, Sequence[Placed | Shipped])
    async with orders.unit_of_work() as work:
        assert_type(work, UnitOfWork[Order])
        (await work.load("1")).ship()
        assert_type(work.session, Session)


async def a_fold_has_a_state(store: EventStore) -> None:
    orders = Repository.of_fold(store, "order", ORDER.fold)
    assert_type(orders, Repository[Folded[str, Placed | Shipped]])
    assert_type((await orders.load("1")).state, str)
    await orders.add("2", Folded(ORDER.fold))


def snapshots_are_a_loader(store: EventStore) -> StateLoader:
    stores: list[SnapshotStore] = [MemorySnapshotStore(), StreamSnapshotStore(store)]
    codec = StateCodec(str.encode, bytes.decode)
    assert_type(codec, StateCodec[str])
    return Snapshots(stores[0], codec)


async def keys_are_text(store: EventStore, session: Session) -> None:
    emails = UniqueKeys("email", normalise=str.casefold)
    assert_type(await emails.find_by(store, "a"), str | None)
    async with emails.changes(session) as changes:
        changes.claim("a", "user-1")


def specifications_know_events_and_commands() -> None:
    specify(ORDER).given(Placed("ada")).when(7).then(Shipped())
    specify(Order).given(Placed("ada")).when(Order.ship).then(Shipped())
    specify(Order).given().when(lambda order: assert_type(order, Order).ship()).then_nothing()


async def what_is_refused(store: EventStore) -> None:
    orders = Repository(store, "order", Order, EVENTS)
    await orders.save(ORDER)  # type: ignore[arg-type]
    Order().record(7)  # type: ignore[arg-type]
    Order().record(Order())  # type: ignore[arg-type]
    Repository(store, "order", str, EVENTS)  # type: ignore[type-var]
    await UniqueKeys("email").claim(store, "a", "user-1")  # type: ignore[arg-type]
    specify(ORDER).given(7)  # type: ignore[arg-type]
    specify(ORDER).given().when("7")  # type: ignore[arg-type]
