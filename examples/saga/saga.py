"""An order from placing to shipping: payment, a timeout, shipment, and compensation.

Run it with ``python examples/saga/saga.py``. Three parts know nothing of each other: orders,
payments and shipments, each a decider of its own. The reactor leads an order through them:

- an order is placed: the payment is asked for, and must be there within 30 minutes;
- it is paid: the shipment is asked for;
- it cannot be shipped: the money is returned, and the order is cancelled;
- it is not paid in time: the order is cancelled.
"""

from __future__ import annotations

import asyncio

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eventport import EventStore, RecordedEvent, connect
from eventport.commands import CommandHandler, Decider
from eventport.reactors import Reaction, Reactor, ReactorRunner, Timeout
from eventport.typed import EventTypes


TIME_TO_PAY = timedelta(minutes=30)


# Orders.


@dataclass(frozen=True)
class OrderPlaced:
    item: str
    cents: int


@dataclass(frozen=True)
class OrderShipped:
    pass


@dataclass(frozen=True)
class OrderCancelled:
    reason: str


OrderEvent = OrderPlaced | OrderShipped | OrderCancelled


def decide_order(command: OrderEvent, state: str) -> list[OrderEvent]:
    """Accept what fits the state: an order ends once."""
    wanted = "new" if isinstance(command, OrderPlaced) else "placed"
    return [command] if state == wanted else []


def evolve_order(_: str, event: OrderEvent) -> str:
    return "placed" if isinstance(event, OrderPlaced) else "ended"


# Payments.


@dataclass(frozen=True)
class PaymentRequested:
    cents: int


@dataclass(frozen=True)
class PaymentReceived:
    pass


@dataclass(frozen=True)
class PaymentClosed:
    """Nothing can be paid any more."""


@dataclass(frozen=True)
class PaymentReturned:
    pass


PaymentEvent = PaymentRequested | PaymentReceived | PaymentClosed | PaymentReturned


class TooLateError(Exception):
    """A payment came after its order was cancelled, or was asked to be closed too late."""


def decide_payment(command: PaymentEvent, state: str) -> list[PaymentEvent]:
    match command, state:
        case (PaymentRequested(), "new") | (PaymentReturned(), "paid"):
            return [command]
        case PaymentReceived() | PaymentClosed(), "requested":
            return [command]
        case (PaymentReceived(), "closed") | (PaymentClosed(), "paid" | "returned"):
            raise TooLateError
        case _:
            return []


def evolve_payment(_: str, event: PaymentEvent) -> str:
    match event:
        case PaymentRequested():
            return "requested"
        case PaymentReceived():
            return "paid"
        case PaymentClosed():
            return "closed"
        case PaymentReturned():
            return "returned"


# Shipments.


@dataclass(frozen=True)
class ItemSent:
    item: str


class OutOfStockError(Exception):
    """The item is not there."""


def decide_shipment(command: ItemSent, sent: list[str]) -> list[ItemSent]:
    if command.item == "unicorn":
        raise OutOfStockError
    return [] if sent else [command]


EVENTS = EventTypes[OrderEvent | PaymentEvent | ItemSent](
    OrderPlaced,
    OrderShipped,
    OrderCancelled,
    PaymentRequested,
    PaymentReceived,
    PaymentClosed,
    PaymentReturned,
    ItemSent,
)
ORDER = Decider(
    types=EventTypes[OrderEvent](OrderPlaced, OrderShipped, OrderCancelled),
    initial=lambda: "new",
    evolve=evolve_order,
    decide=decide_order,
)
PAYMENT = Decider(
    types=EventTypes[PaymentEvent](
        PaymentRequested, PaymentReceived, PaymentClosed, PaymentReturned
    ),
    initial=lambda: "new",
    evolve=evolve_payment,
    decide=decide_payment,
)
SHIPMENT: Decider[list[str], ItemSent, ItemSent] = Decider(
    types=EventTypes[ItemSent](ItemSent),
    initial=list,
    evolve=lambda sent, event: [*sent, event.item],
    decide=decide_shipment,
)


class Shop:
    """The three parts, in one store."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.orders = CommandHandler(store, ORDER)
        self.payments = CommandHandler(store, PAYMENT)
        self.shipments = CommandHandler(store, SHIPMENT)


# The process.


def fulfilment(shop: Shop) -> Reactor:
    reactor = Reactor("fulfilment", types=EVENTS)

    @reactor.on(OrderPlaced)
    async def placed(event: RecordedEvent[OrderPlaced], reaction: Reaction) -> None:
        number = number_of(event.stream)
        await reaction.handle(
            shop.payments, f"payment-{number}", PaymentRequested(event.data.cents)
        )
        await reaction.schedule("unpaid", number, after=TIME_TO_PAY)

    @reactor.on(PaymentReceived)
    async def paid(event: RecordedEvent[PaymentReceived], reaction: Reaction) -> None:
        number = number_of(event.stream)
        await reaction.cancel("unpaid", number)
        order = EVENTS.decode((await reaction.store.read(f"order-{number}")).events[0])
        assert isinstance(order, OrderPlaced)  # noqa: S101  # the first event of each order
        try:
            await reaction.handle(shop.shipments, f"shipment-{number}", ItemSent(order.item))
        except OutOfStockError:  # compensate what has been done
            await reaction.handle(shop.payments, f"payment-{number}", PaymentReturned())
            await reaction.handle(shop.orders, f"order-{number}", OrderCancelled("out of stock"))

    @reactor.on(ItemSent)
    async def sent(event: RecordedEvent[ItemSent], reaction: Reaction) -> None:
        number = number_of(event.stream)
        await reaction.handle(shop.orders, f"order-{number}", OrderShipped())

    @reactor.on_timeout("unpaid")
    async def unpaid(expired: Timeout, reaction: Reaction) -> None:
        try:  # the payment decides which came first
            await reaction.handle(shop.payments, f"payment-{expired.key}", PaymentClosed())
        except TooLateError:
            return
        await reaction.handle(shop.orders, f"order-{expired.key}", OrderCancelled("not paid"))

    return reactor


def number_of(stream: str) -> str:
    return stream.partition("-")[2]


def runner_of(
    shop: Shop, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> ReactorRunner:
    return ReactorRunner(shop.store, fulfilment(shop), clock=clock)


async def main() -> None:
    async with connect("memory://") as store:
        shop = Shop(store)
        running = asyncio.create_task(runner_of(shop).run())
        async with asyncio.timeout(10), store.subscribe() as events:
            await shop.orders.handle("order-1", OrderPlaced("book", 1990))
            await shop.orders.handle("order-2", OrderPlaced("unicorn", 99_000_00))
            ended = 0
            async for event in events:
                if event.stream.startswith("eventport/"):
                    continue
                print(f"{event.stream}: {event.type}")
                if event.type == "PaymentRequested":
                    await shop.payments.handle(event.stream, PaymentReceived())
                ended += event.type in {"OrderShipped", "OrderCancelled"}
                if ended == 2:
                    break
        running.cancel()
        await asyncio.wait([running])


if __name__ == "__main__":
    asyncio.run(main())
