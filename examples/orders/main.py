"""Process an order: events in SQLite, a race, two streams in one commit, and a live view.

Run it with ``python examples/orders/main.py``; it needs ``pip install 'eventport[sqlite]'``.
The events go where ``eventport.toml`` says: into ``orders.db`` beside it. Run it again, and it goes
on with the next order; delete the file to start afresh.
"""

from __future__ import annotations

import asyncio

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypedDict

from eventport import (
    NO_STREAM,
    ConcurrencyError,
    EventStore,
    NewEvent,
    RecordedEvent,
    Streams,
    Subscription,
    connect,
)


CONFIG: Final = Path(__file__).with_name("eventport.toml")
WAREHOUSE: Final = "warehouse"


# Events: what happened, as plain JSON. Typed dicts say what their data looks like.


class OrderCreated(TypedDict):
    customer: str


class ItemAdded(TypedDict):
    item: str
    quantity: int
    cents: int


class OrderShipped(TypedDict):
    carrier: str


class StockTaken(TypedDict):
    order: str
    items: dict[str, int]


# The aggregate: the state of one order, folded from the events of its stream.


@dataclass(frozen=True)
class Order:
    customer: str = ""
    items: Counter[str] = field(default_factory=Counter)
    cents: int = 0
    shipped: bool = False


def evolve(order: Order, event: RecordedEvent) -> Order:
    """Return the order as it is after one more event."""
    match event.type, event.data:
        case "OrderCreated", {"customer": customer}:
            return replace(order, customer=customer)
        case "ItemAdded", {"item": item, "quantity": quantity, "cents": cents}:
            return replace(
                order,
                items=order.items + Counter({item: quantity}),
                cents=order.cents + quantity * cents,
            )
        case "OrderShipped", _:
            return replace(order, shipped=True)
        case _:
            return order


# Commands: read, decide, and append at the version that was read. What has happened meanwhile
# makes the append fail, so a decision never rests on an order that was another one by then.


async def create_order(streams: Streams, stream: str, customer: str) -> None:
    data: OrderCreated = {"customer": customer}
    await streams.append(stream, [NewEvent("OrderCreated", data)], expected=NO_STREAM)


async def add_item(streams: Streams, stream: str, item: ItemAdded) -> None:
    order = await streams.aggregate(stream, evolve, Order)
    if order.state.shipped:
        message = f"{stream} has been shipped: it is too late for {item['item']}"
        raise ValueError(message)
    await streams.append(stream, [NewEvent("ItemAdded", item)], expected=order.version)


async def ship_order(store: EventStore, stream: str, carrier: str) -> None:
    """Write to two streams, the order's and the warehouse's: both or neither."""
    async with store.session() as session:
        order = await session.aggregate(stream, evolve, Order)
        shipped: OrderShipped = {"carrier": carrier}
        taken: StockTaken = {"order": stream, "items": dict(order.state.items)}
        await session.append(stream, [NewEvent("OrderShipped", shipped)], expected=order.version)
        await session.append(WAREHOUSE, [NewEvent("StockTaken", taken)])


# The demonstration.


async def process_an_order(store: EventStore, stream: str) -> None:
    await step(f"Ann creates {stream} and adds tea.")
    await create_order(store, stream, "Ann")
    await add_item(store, stream, {"item": "tea", "quantity": 2, "cents": 450})

    await step("Bob looks at the order. Before he acts, Ann adds a cup.")
    seen_by_bob = await store.aggregate(stream, evolve, Order)
    await add_item(store, stream, {"item": "cup", "quantity": 1, "cents": 900})

    await step("Bob adds biscuits to the order that he saw: refused, since it has changed.")
    biscuits: ItemAdded = {"item": "biscuits", "quantity": 3, "cents": 250}
    try:
        await store.append(stream, [NewEvent("ItemAdded", biscuits)], expected=seen_by_bob.version)
    except ConcurrencyError as conflict:
        print(f"   ConcurrencyError: {conflict}")
        await step("He reads the order again, decides again, and tries again.")
        await add_item(store, stream, biscuits)

    await step("The order is shipped: one commit over two streams.")
    await ship_order(store, stream, "Cargo bike")


async def watch(subscription: Subscription, stream: str) -> None:
    """Print each new event, from whichever process it comes, until this order has left."""
    async for event in subscription:
        print(f"   live: {event.stream} {event.version} {event.type}")
        if event.type == "StockTaken" and event.data["order"] == stream:
            return


async def show(store: EventStore, stream: str) -> None:
    await step(f"What is stored in {stream}, and in the warehouse's last event:")
    async with aclosing(store.iterate(stream)) as events:
        async for event in events:
            print(f"   {event.version} {event.type} {event.data}")
    for event in (await store.read(WAREHOUSE, backwards=True, max_count=1)).events:
        print(f"   {event.version} {event.type} {event.data}")

    order = (await store.aggregate(stream, evolve, Order)).state
    total = f"{order.cents / 100:.2f}"
    await step(f"Folded: {order.customer} gets {order.items.total()} items for {total}.")


async def step(text: str) -> None:
    await asyncio.sleep(0.1)  # so that what happens live is printed in its place
    print(f"\n{text}")


async def main() -> None:
    async with connect("orders", config=CONFIG) as store:
        orders, end = 0, 0
        async with aclosing(store.iterate_all()) as events:
            async for event in events:
                orders += event.type == "OrderCreated"
                end = event.position
        stream = f"order-{orders + 1}"
        print(f"{store} holds {orders} orders; this run adds {stream}.")

        async with store.subscribe(after=end) as subscription, asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(subscription, stream))
            await process_an_order(store, stream)
        await show(store, stream)


if __name__ == "__main__":
    asyncio.run(main())
