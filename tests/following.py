"""What the tests of subscriptions share: stores, feeds and engines to follow."""

from __future__ import annotations

from anyio import wait_all_tasks_blocked
from tests.engines import Watched

from eventport import (
    NewEvent,
    StoreUnavailableError,
    Subscription,
)
from eventport._concurrency.signal import Signal
from eventport._engine.feed import Feed
from eventport._engine.history import History
from eventport._engine.queries import PAGE_EVENTS as PAGE_SIZE
from eventport._engine.subscription import PollingSubscription
from eventport.adapter import AllPage, AllQuery, Store

from eventport_conformance.waiting import no_hang
from eventport_memory.engine import MemoryEngine


def opened(engine: Watched) -> Store:
    return Store(engine, batching="never")


def feed_of(engine: MemoryEngine, signal: Signal, *, polls: bool = False) -> Feed:
    """Follow an engine with a signal of the test's own."""
    return Feed(
        engine.read_all,
        signal,
        History("this store", engine.read_all, None),
        losses=lambda: 0,
        polls=polls,
        pushed=lambda: False,
    )


def subscription_of(feed: Feed) -> PollingSubscription:
    return PollingSubscription(feed, AllQuery(max_count=PAGE_SIZE), lambda: None)


def followed(engine: MemoryEngine, signal: Signal, *, polls: bool = False) -> PollingSubscription:
    return subscription_of(feed_of(engine, signal, polls=polls))


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("T", number) for number in range(first, last + 1)]


async def take(subscription: Subscription, count: int) -> list[object]:
    with no_hang():
        return [(await anext(subscription)).data for _ in range(count)]


async def follow(subscription: Subscription, found: list[object]) -> None:
    """Take what comes until the test ends."""
    while True:
        found.append((await anext(subscription)).data)


class Replaceable(MemoryEngine):
    """An engine whose server can be away, and come back with another history."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.failing_reads = 0

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if self.away or self.failing_reads:
            self.failing_reads = max(0, self.failing_reads - 1)
            raise StoreUnavailableError("the server is away")
        return await super().read_all(query)

    def forget(self) -> None:
        self._log.events.clear()
        self._log.streams.clear()


def wake(store: Store) -> None:
    store._signal.notify()


async def come_back_with(engine: Replaceable, store: Store, *numbers: int) -> None:
    """Hold these events only."""
    engine.away = True
    wake(store)
    await wait_all_tasks_blocked()
    engine.forget()
    engine.away = False
    for number in numbers:
        await store.append("s", [NewEvent("E", number)])
