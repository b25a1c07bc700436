"""The ways that an order can go, in memory and on SQLite."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anyio import create_task_group, fail_after, sleep
from saga import (
    TIME_TO_PAY,
    OrderPlaced,
    PaymentReceived,
    Shop,
    TooLateError,
    main,
    runner_of,
)

from eventport import connect
from eventport.testing import FakeClock


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Shop]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'shop.db'}"
    async with connect(url) as store:
        yield Shop(store)


async def run_until(shop: Shop, clock: FakeClock, stream: str, last: str) -> list[str]:
    """Run the reactor until a stream ends with a type; return the types of its events."""
    found = list[str]()
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(runner_of(shop, clock).run)
            while True:
                found = [event.type for event in (await shop.store.read(stream)).events]
                if found and found[-1] == last:
                    break
                await sleep(0.01)
            group.cancel_scope.cancel()
    return found


@pytest.mark.parametrize(
    ("item", "order", "payment"),
    [
        ("book", ["OrderPlaced", "OrderShipped"], ["PaymentRequested", "PaymentReceived"]),
        (
            "unicorn",
            ["OrderPlaced", "OrderCancelled"],
            ["PaymentRequested", "PaymentReceived", "PaymentReturned"],
        ),
    ],
)
async def test_a_paid_order_is_shipped_or_undone(
    shop: Shop, item: str, order: list[str], payment: list[str]
) -> None:
    clock = FakeClock(datetime.now(UTC))
    await shop.orders.handle("order-7", OrderPlaced(item, 1990))
    await run_until(shop, clock, "payment-7", "PaymentRequested")
    await shop.payments.handle("payment-7", PaymentReceived())
    clock.advance(2 * TIME_TO_PAY)
    assert await run_until(shop, clock, "order-7", order[-1]) == order
    found = (await shop.store.read("payment-7")).events
    assert [event.type for event in found] == payment


async def test_an_order_that_is_not_paid_in_time_is_cancelled(shop: Shop) -> None:
    clock = FakeClock(datetime.now(UTC))
    await shop.orders.handle("order-7", OrderPlaced("book", 1990))
    await run_until(shop, clock, "eventport/timeouts/fulfilment", "eventport.TimeoutScheduled")
    clock.advance(TIME_TO_PAY + timedelta(minutes=1))  # while nothing runs
    assert await run_until(shop, clock, "order-7", "OrderCancelled")
    with pytest.raises(TooLateError):
        await shop.payments.handle("payment-7", PaymentReceived())


async def test_the_program_shows_both_orders(capsys: pytest.CaptureFixture[str]) -> None:
    await main()
    shown = capsys.readouterr().out.splitlines()
    assert "order-1: OrderShipped" in shown
    assert "payment-2: PaymentReturned" in shown
    assert "order-2: OrderCancelled" in shown
