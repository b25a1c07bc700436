"""Orders, as the tests of aggregates need them: a class, and functions that do the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self, TypeAlias

from eventport import EventStore
from eventport.aggregates import Aggregate
from eventport.commands import Decider
from eventport.typed import EventTypes


@dataclass(frozen=True)
class Placed:
    customer: str


@dataclass(frozen=True)
class ItemAdded:
    sku: str
    quantity: int = 1


@dataclass(frozen=True)
class Shipped:
    pass


OrderEvent: TypeAlias = Placed | ItemAdded | Shipped

EVENTS = EventTypes[OrderEvent](Placed, ItemAdded, Shipped)


class RefusedError(Exception):
    """An order that has been shipped does not change any more."""


@dataclass
class Order(Aggregate[OrderEvent]):
    customer: str = ""
    items: dict[str, int] = field(default_factory=dict[str, int])
    shipped: bool = False

    @classmethod
    def place(cls, customer: str) -> Self:
        order = cls()
        order.record(Placed(customer))
        return order

    def add(self, sku: str, quantity: int = 1) -> None:
        if self.shipped:
            raise RefusedError("it has been shipped")
        self.record(ItemAdded(sku, quantity))

    def ship(self) -> None:
        if not self.shipped:
            self.record(Shipped())

    def apply(self, event: OrderEvent) -> None:
        match event:
            case Placed(customer):
                self.customer = customer
            case ItemAdded(sku, quantity):
                self.items[sku] = self.items.get(sku, 0) + quantity
            case Shipped():
                self.shipped = True


@dataclass(frozen=True)
class State:
    customer: str = ""
    items: int = 0
    shipped: bool = False


@dataclass(frozen=True)
class Add:
    sku: str
    quantity: int = 1


@dataclass(frozen=True)
class Ship:
    pass


def evolve(state: State, event: OrderEvent) -> State:
    match event:
        case Placed(customer):
            return State(customer, state.items, state.shipped)
        case ItemAdded(_, quantity):
            return State(state.customer, state.items + quantity, state.shipped)
        case Shipped():
            return State(state.customer, state.items, shipped=True)


def decide(command: Add | Ship, state: State) -> list[OrderEvent]:
    match command:
        case Add(sku, quantity):
            if state.shipped:
                raise RefusedError("it has been shipped")
            return [ItemAdded(sku, quantity)]
        case Ship():
            return [] if state.shipped else [Shipped()]


ORDER = Decider(types=EVENTS, initial=State, evolve=evolve, decide=decide)


async def types(store: EventStore, stream: str) -> list[str]:
    return [event.type for event in (await store.read(stream)).events]
