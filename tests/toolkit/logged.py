"""Commands on orders for the tests of the log, and what it has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.toolkit.orders import EVENTS, Order

from eventport import EventStore
from eventport.aggregates import Repository, UnitOfWork
from eventport.command_log import Recorded


@dataclass(frozen=True)
class Add:
    """A command of the tests; what it does, each test says."""

    order: str
    sku: str = "tea"


def orders_of(store: EventStore) -> Repository[Order]:
    return Repository(store, "order", Order, EVENTS)


async def placed(store: EventStore, *ids: str) -> Repository[Order]:
    orders = orders_of(store)
    for id_ in ids:
        await orders.add(id_, Order.place("ada"))
    return orders


def adding(*ids: str, sku: str = "tea") -> Any:
    async def add(work: UnitOfWork[Order]) -> list[int]:
        loaded = await work.load_many(ids)
        for order in loaded:
            order.add(sku)
        return [len(order.items) for order in loaded]

    return add


async def found(records: Any) -> list[Recorded]:
    return [record async for record in records]
