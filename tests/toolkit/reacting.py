"""Runs reactors on what is in a store, until nothing is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from anyio import sleep
from tests.toolkit.stages import QUICK, running

from eventport import EventStore, NewEvent, RecordedEvent
from eventport.projections import StreamCheckpoints
from eventport.reactors import Reaction, Reactor, ReactorRunner, Timeout
from eventport.testing import FakeClock

from eventport_conformance.waiting import no_hang


HALF_HOUR: Final = timedelta(minutes=30)


TIMEOUTS: Final = "eventport/timeouts/saga"


def saga(**options: Any) -> Reactor:
    chosen: dict[str, Any] = {"retries": QUICK, **options}
    return Reactor("saga", **chosen)


def unpaid_after_half_an_hour() -> Reactor:
    """React to orders that are not paid in time."""
    reactor = saga()

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.schedule("unpaid", event.stream, after=HALF_HOUR, data={"n": 1})

    @reactor.on("Paid")
    async def paid(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.cancel("unpaid", event.stream)

    @reactor.on_timeout("unpaid")
    async def unpaid(expired: Timeout, reaction: Reaction) -> None:
        await reaction.append(expired.key, [NewEvent("Cancelled", expired.data)])

    return reactor


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with no_hang():
        while True:
            if await condition():
                return
            await sleep(0.01)


async def types_of(store: EventStore, stream: str) -> list[str]:
    return [event.type for event in (await store.read(stream)).events]


async def handle_all(store: EventStore, reactor: Reactor, clock: FakeClock | None = None) -> None:
    """Run a reactor until it has handled all that is there now, its timeouts included."""
    last = await store.append("end", [NewEvent("End", {})])
    runner = runner_of(store, reactor, clock)
    async with running(runner):
        await runner.wait_until(last.position or 0)
        if clock is not None:
            await until(lambda: nothing_due(store, clock))
        head = await store.append("end", [NewEvent("End", {})])
        await runner.wait_until(head.position or 0)


async def nothing_due(store: EventStore, clock: FakeClock) -> bool:
    pending: dict[str, str] = {}
    for event in (await store.read(TIMEOUTS)).events:
        pending.pop(event.data["key"], None)
        if event.type == "eventport.TimeoutScheduled":
            pending[event.data["key"]] = event.data["due"]
    return all(datetime.fromisoformat(due) > clock() for due in pending.values())


def runner_of(store: EventStore, reactor: Reactor, clock: FakeClock | None) -> ReactorRunner:
    return (
        ReactorRunner(store, reactor)
        if clock is None
        else ReactorRunner(store, reactor, clock=clock)
    )


async def forget_checkpoint(store: EventStore, reactor: Reactor) -> None:
    """Let everything be handled again, as after a crash before the checkpoint."""
    await StreamCheckpoints(store).reset(reactor.model.id, 0)


def now() -> FakeClock:
    return FakeClock(datetime.now(UTC))
