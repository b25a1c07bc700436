"""Events and small helpers that the tests of many clauses share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

import anyio

from eventport import EventStore, NewEvent, RecordedEvent, Subscription

from eventport_conformance.trial import Deviation
from eventport_conformance.waiting import no_hang


T = TypeVar("T")


def make(count: int, type_: str = "Counted", start: int = 1) -> list[NewEvent]:
    """Make events that differ from each other."""
    return [NewEvent(type_, {"n": n}) for n in range(start, start + count)]


def places(events: Iterable[RecordedEvent]) -> list[tuple[str, int]]:
    """Return the stream and version of each event."""
    return [(event.stream, event.version) for event in events]


async def fill(store: EventStore, stream: str, count: int) -> list[NewEvent]:
    """Append events to a stream in one append."""
    events = make(count)
    await store.append(stream, events)
    return events


async def collect(events: AsyncGenerator[T, None], at_most: int = 100_000) -> list[T]:
    """Take all that a generator yields; give up on one that does not end."""
    found: list[T] = []
    async with aclosing(events):
        async for event in events:
            found.append(event)
            if len(found) > at_most:
                raise Deviation("the iteration ends", f"at most {at_most} events", "more")
    return found


async def take(subscription: Subscription, count: int) -> list[RecordedEvent]:
    """Take this many events from a subscription; fail if they do not come."""
    found: list[RecordedEvent] = []
    try:
        with no_hang(f"the subscription yields {count} events"):
            while len(found) < count:
                found.append(await anext(subscription))
    except StopAsyncIteration:
        what = "the subscription goes on"
        raise Deviation(what, f"{count} events", f"an end after {len(found)}") from None
    except Deviation as exc:
        raise Deviation(exc.what, str(count), f"{len(found)}: {_brief(found)}") from exc
    return found


async def catch_up(subscription: Subscription) -> None:
    """Wait until a subscription that has no more events to yield has caught up."""

    async def wait_for_events() -> None:
        async for event in subscription:
            raise Deviation("the subscription yields nothing more", "silence", _brief([event]))
        raise Deviation("the subscription goes on", "silence", "its end")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_events)
        with no_hang("the subscription catches up"):
            await subscription.caught_up.wait()
        tasks.cancel_scope.cancel()


async def quiet(subscription: AsyncIterable[RecordedEvent], seconds: float = 0.3) -> None:
    """Fail if a subscription yields an event, or ends, within some time.

    A busy machine can only make it see less: do not conclude from it that anything has happened.
    """
    with anyio.move_on_after(seconds) as scope:
        async for event in subscription:
            raise Deviation("the subscription yields nothing more", "silence", _brief([event]))
    if not scope.cancelled_caught:
        raise Deviation("the subscription goes on", "silence", "its end")


async def at_once(count: int, work: Callable[[int], Awaitable[T]]) -> list[T]:
    """Run tasks that all start at the same moment; return their results, in their order."""
    results: dict[int, T] = {}
    start = anyio.Event()

    async def run(index: int) -> None:
        await start.wait()
        results[index] = await work(index)

    async with anyio.create_task_group() as tasks:
        for index in range(count):
            tasks.start_soon(run, index)
        start.set()
    return [results[index] for index in range(count)]


def _brief(events: list[RecordedEvent]) -> str:
    return ", ".join(f"{event.stream}@{event.version}" for event in events[:20])
