"""Events reach a subscriber of FastStream, on its broker for tests, also after a failure."""

from __future__ import annotations

import asyncio

from typing import Any

from faststream.nats import NatsBroker, TestNatsBroker
from outbox_with_faststream import outbox

from eventport import NewEvent, connect
from eventport.projections import Runner, open_checkpoints


async def test_every_event_is_published_in_order_and_at_least_once() -> None:
    broker = NatsBroker()
    received: list[tuple[str, int]] = []

    @broker.subscriber("OrderPlaced")
    async def placed(event: dict[str, Any]) -> None:
        received.append((event["stream"], event["data"]["total"]))
        if len(received) == 2:
            raise ConnectionError("the answer of the broker is lost")

    async with (
        TestNatsBroker(broker),
        connect("memory://") as store,
        open_checkpoints(store) as checkpoints,
    ):
        for number in (1, 2, 3):
            result = await store.append(
                f"order-{number}",
                [NewEvent("OrderPlaced", {"total": number}), NewEvent("Other", {})],
            )
        runner = Runner(store, outbox(broker, "OrderPlaced"), checkpoints)
        running = asyncio.create_task(runner.run())
        async with asyncio.timeout(60):
            await runner.wait_until(result.position)
        running.cancel()
        await asyncio.wait([running])
    in_order = [("order-1", 1), ("order-2", 2), ("order-3", 3)]
    assert received[-3:] == in_order
    assert received[:-3] == in_order[:2]  # what a lost answer has sent before, it sends again
