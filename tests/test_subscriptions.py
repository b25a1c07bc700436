"""A subscription hands out every event once, in order, and no wake-up is lost."""

from __future__ import annotations

import logging

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from anyio import Event, create_task_group, move_on_after, wait_all_tasks_blocked
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from tests.engines import Watched, nothing

from eventport import (
    CorruptEventError,
    HistoryReplacedError,
    InvalidArgumentError,
    NewEvent,
    StoreClosedError,
    StoreUnavailableError,
    Subscription,
)
from eventport._concurrency.signal import Signal
from eventport._engine.history import History
from eventport._engine.stream_reader import PAGE_EVENTS as PAGE_SIZE
from eventport._engine.subscription import Feed, PollingSubscription
from eventport.adapter import AllPage, AllQuery, Store

from eventport_conformance.helpers import catch_up
from eventport_conformance.waiting import no_hang
from eventport_memory import engine as memory_engine
from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


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


@asynccontextmanager
async def task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that type checkers know to swallow no exception."""
    async with create_task_group() as tasks:
        yield tasks


async def test_it_catches_up_and_goes_on_live() -> None:
    engine = Watched(2)
    store = opened(engine)
    await store.append("a", numbered(1, 3))
    async with store.subscribe() as subscription:
        assert await take(subscription, 3) == [1, 2, 3]
        async with task_group() as tasks:
            tasks.start_soon(store.append, "b", numbered(4, 5))
            assert await take(subscription, 2) == [4, 5]
        await store.append("a", numbered(6, 6))
        assert await take(subscription, 1) == [6]


async def test_it_begins_behind_a_position() -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 5))
    async with store.subscribe(after=3) as subscription:
        assert subscription.position == 3
        assert await take(subscription, 2) == [4, 5]


async def follow_to(store: Store, after: int, end: int, into: list[object]) -> None:
    async with store.subscribe(after=after) as subscription:
        async for event in subscription:
            into.append((event.stream, event.version, event.position))
            if event.position == end:
                return
            if event.position % 7 == after % 7:
                await checkpoint()


@pytest.mark.parametrize("size", [1, 3, PAGE_SIZE])
async def test_nothing_is_missed_or_repeated_while_others_append(size: int) -> None:
    engine = Watched(size)
    store = opened(engine)
    seen: list[list[object]] = [[], [], []]

    async def write(stream: str) -> None:
        for number in range(25):
            await store.append(stream, numbered(number, number + 2))
            if number % 3:
                await checkpoint()

    await store.append("z", numbered(1, 2))
    with no_hang():
        async with task_group() as tasks:
            for after, into in enumerate(seen):
                tasks.start_soon(follow_to, store, after, 302, into)
            for stream in "abcd":
                tasks.start_soon(write, stream)
    written = [(e.stream, e.version, e.position) async for e in store.iterate_all()]
    assert len(written) == 302
    assert seen == [written, written[1:], written[2:]]


async def test_filters_choose_and_the_position_moves_on() -> None:
    engine = Watched(2)
    store = opened(engine)
    for number in range(20):
        kind = "Even" if number % 2 == 0 else "Odd"
        await store.append("ab"[number % 3 == 0], [NewEvent(kind, number)])
    async with store.subscribe(types={"Even"}, prefix="b") as subscription:
        assert await take(subscription, 4) == [0, 6, 12, 18]
        await catch_up(subscription)
        assert subscription.position == 20
        await store.append("b", [NewEvent("Odd", 20), NewEvent("Even", 21)])
        assert await take(subscription, 1) == [21]


async def test_the_position_is_where_to_resume() -> None:
    engine = Watched(3)
    store = opened(engine)
    await store.append("a", numbered(1, 10))
    seen: list[object] = []
    position = 0
    while len(seen) < 10:
        async with store.subscribe(after=position) as subscription:
            assert subscription.position == position
            seen += await take(subscription, 1)
            position = subscription.position
    assert seen == list(range(1, 11))
    assert position == 10


async def test_caught_up_is_when_all_there_was_has_been_worked_off() -> None:
    engine = Watched(2)
    store = opened(engine)
    await store.append("a", numbered(1, 4))
    async with store.subscribe() as subscription, task_group() as tasks:
        for _ in range(4):
            assert not subscription.caught_up.is_set()
            await take(subscription, 1)
        await wait_all_tasks_blocked()
        assert not subscription.caught_up.is_set()
        tasks.start_soon(take, subscription, 1)
        with no_hang():
            await subscription.caught_up.wait()
        await store.append("a", numbered(5, 5))


async def test_it_has_not_caught_up_before_the_filter_has_seen_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_engine, "_SCAN", 3)
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 10))
    await store.append("b", numbered(11, 11))
    async with store.subscribe(prefix="b") as subscription:
        assert await take(subscription, 1) == [11]
        assert len(engine.asked) == 4
        assert not subscription.caught_up.is_set()


async def test_an_empty_store_is_caught_up_with_at_once() -> None:
    engine = Watched()
    store = opened(engine)
    async with store.subscribe() as subscription:
        await catch_up(subscription)


async def test_a_commit_between_the_look_and_the_sleep_is_not_slept_through() -> None:
    engine = Watched()
    store = opened(engine)
    committed: list[int] = []

    async def commit_once() -> None:
        if not committed:
            committed.append(1)
            await store.append("a", numbered(7, 7))

    # The look has found nothing, and the sleep has not begun.
    engine.after_read = commit_once
    async with store.subscribe() as subscription:
        assert await take(subscription, 1) == [7]


async def test_commits_that_wake_nobody_are_found_by_polling() -> None:
    engine = Watched()
    subscription = followed(engine, Signal(), polls=True)
    async with task_group() as tasks:
        tasks.start_soon(opened(engine).append, "a", numbered(1, 1))
        assert await take(subscription, 1) == [1]


class Ticking(Signal):
    """Lets time pass, which is what polling waits for, only when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._tick = Event()

    async def wait(self, count: int, at_most: float | None) -> None:
        if at_most is None:
            await super().wait(count, None)
        else:
            self.waits.append(at_most)
            await self._tick.wait()

    async def tick(self) -> None:
        """Let all that wait for a time go on, and wait until they have done what they can."""
        self._tick.set()
        self._tick = Event()
        await wait_all_tasks_blocked()


async def follow(subscription: Subscription, found: list[object]) -> None:
    """Take what comes until the test ends."""
    while True:
        found.append((await anext(subscription)).data)


async def test_while_nothing_happens_it_polls_ever_more_seldom() -> None:
    engine, clock, found = Watched(), Ticking(), list[object]()
    store = opened(engine)
    async with task_group() as tasks:
        tasks.start_soon(follow, followed(engine, clock, polls=True), found)
        await wait_all_tasks_blocked()
        for number in (1, 2):
            for _ in range(6):
                await clock.tick()
            await store.append("a", numbered(number, number))
            await clock.tick()
            assert found[-1] == number
        tasks.cancel_scope.cancel()
    assert clock.waits[:7] == clock.waits[7:14] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2]


@pytest.mark.parametrize("count", [1, 64])
async def test_only_one_of_many_idle_subscriptions_polls(count: int) -> None:
    engine, clock, found = Watched(), Ticking(), list[object]()
    feed = feed_of(engine, clock, polls=True)
    async with task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(follow, subscription_of(feed), found)
        await wait_all_tasks_blocked()
        engine.asked.clear()
        for _ in range(10):
            await clock.tick()
        assert engine.asked == [1] * 10  # one read each time, for one event at most
        await opened(engine).append("a", numbered(7, 7))
        await clock.tick()
        assert found == [7] * count
        tasks.cancel_scope.cancel()


async def test_polling_ends_with_the_last_idle_subscription() -> None:
    engine, clock = Watched(), Ticking()
    feed = feed_of(engine, clock, polls=True)
    async with task_group() as tasks:
        tasks.start_soon(follow, subscription_of(feed), [])
        await wait_all_tasks_blocked()
        assert feed._polling
        tasks.cancel_scope.cancel()
    engine.asked.clear()
    await clock.tick()
    assert not feed._polling
    assert engine.asked == []


async def test_a_poll_that_fails_makes_all_idle_subscriptions_check_the_history() -> None:
    """Another server may have answered since, whose history is longer, but not the same."""
    engine, clock = Replaceable(), Ticking()
    store = Store(engine, batching="never")
    await store.append("s", numbered(1, 2))
    feed = feed_of(engine, clock, polls=True)
    errors: list[str] = []

    async def expect_an_error(subscription: Subscription) -> None:
        assert [(await anext(subscription)).data for _ in range(2)] == [1, 2]
        with pytest.raises(HistoryReplacedError) as caught:
            await anext(subscription)
        errors.append(str(caught.value))

    async with task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(expect_an_error, subscription_of(feed))
        await wait_all_tasks_blocked()
        engine.failing_reads = 1
        engine.forget()
        await store.append("s", numbered(7, 9))
        await clock.tick()
        tasks.cancel_scope.cancel()
    assert len(errors) == 3


async def test_a_store_that_is_gone_for_a_while_is_survived_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 2))
    waits: list[float] = []

    class Impatient(Signal):
        async def wait(self, count: int, at_most: float | None) -> None:
            waits.append(at_most or 0)

    async def fail() -> None:
        if len(engine.asked) <= 8:
            raise StoreUnavailableError("no route")

    subscription = followed(engine, Impatient())
    engine.before_read = fail
    with caplog.at_level(logging.WARNING, logger="eventport"):
        assert await take(subscription, 2) == [1, 2]
    shortest = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert all(low <= wait <= low * 1.25 for low, wait in zip(shortest, waits, strict=True))
    assert caplog.messages[0].startswith("subscription: no route; next attempt in 0.1 s")
    assert len(caplog.messages) == 8


async def test_another_error_comes_through_and_loses_nothing() -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 1))

    async def fail() -> None:
        raise CorruptEventError("broken")

    engine.before_read = fail
    async with store.subscribe() as subscription:
        with pytest.raises(CorruptEventError):
            await anext(subscription)
        engine.before_read = nothing
        assert await take(subscription, 1) == [1]


async def test_cancelling_the_wait_loses_nothing() -> None:
    engine = Watched(2)
    store = opened(engine)
    async with store.subscribe() as subscription:
        with move_on_after(0.02):
            await anext(subscription)
        await store.append("a", numbered(1, 3))

        # The events have been fetched, but not handed out.
        go_on = anyio.Event()
        with anyio.CancelScope() as scope:

            async def linger() -> None:
                scope.cancel()
                await go_on.wait()

            engine.after_read = linger
            await anext(subscription)
        assert scope.cancelled_caught
        engine.after_read = nothing
        assert subscription.position == 0
        go_on.set()
        assert await take(subscription, 3) == [1, 2, 3]


async def test_closing_the_store_wakes_the_subscriber() -> None:
    engine = Watched()
    store = opened(engine)
    errors: list[Exception] = []

    async def follow() -> None:
        async with store.subscribe() as subscription:
            try:
                await anext(subscription)
            except StoreClosedError as exc:
                errors.append(exc)

    with no_hang():
        async with task_group() as tasks:
            tasks.start_soon(follow)
            await wait_all_tasks_blocked()
            await store.aclose()
    assert len(errors) == 1


@pytest.mark.parametrize("buffered", [0, 10])
async def test_leaving_the_block_ends_the_iteration_in_another_task(buffered: int) -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, buffered))
    seen: list[object] = []
    go = anyio.Event()

    async def go_on(subscription: Subscription) -> None:
        async for event in subscription:
            seen.append(event.data)
            await go.wait()
        seen.append("end")

    with no_hang():
        async with task_group() as tasks:
            async with store.subscribe() as subscription:
                tasks.start_soon(go_on, subscription)
                await wait_all_tasks_blocked()
            go.set()
    assert seen == ([1, "end"] if buffered else ["end"])


async def test_a_subscription_that_was_left_hands_out_nothing_more() -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 3))
    async with store.subscribe() as subscription:
        await take(subscription, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def test_a_slow_consumer_holds_one_page_at_the_most() -> None:
    engine = Watched()
    store = opened(engine)
    await store.append("a", numbered(1, 2 * PAGE_SIZE + 10))
    async with store.subscribe() as subscription:
        await take(subscription, 1)
        assert engine.asked == [PAGE_SIZE]
        await store.append("a", numbered(1, PAGE_SIZE))
        await wait_all_tasks_blocked()
        await take(subscription, PAGE_SIZE - 1)
        assert engine.asked == [PAGE_SIZE]
        await take(subscription, 1)
        assert engine.asked == [PAGE_SIZE] * 2


async def test_tasks_that_share_a_subscription_get_each_event_once() -> None:
    engine = Watched(3)
    store = opened(engine)
    await store.append("a", numbered(1, 50))
    seen: list[object] = []
    async with store.subscribe() as subscription, task_group() as tasks:

        async def work() -> None:
            for _ in range(20):
                seen.append((await anext(subscription)).data)  # tasks take turns
                await checkpoint()

        for _ in range(5):
            tasks.start_soon(work)
        await wait_all_tasks_blocked()
        await store.append("b", numbered(51, 100))
    assert sorted(map(int, map(str, seen))) == list(range(1, 101))


async def test_an_idle_subscription_does_not_look_again_and_again() -> None:
    engine = Watched()
    store = opened(engine)
    async with store.subscribe() as subscription, task_group() as tasks:
        tasks.start_soon(take, subscription, 1)
        await wait_all_tasks_blocked()
        await anyio.sleep(0.05)
        assert len(engine.asked) == 1
        await store.append("a", numbered(1, 1))
    assert len(engine.asked) == 2


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
        self._log.clear()
        self._streams.clear()


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


async def test_a_position_beyond_the_head_is_refused() -> None:
    store = opened(Watched())
    await store.append("a", numbered(1, 3))
    async with store.subscribe(after=3) as subscription:
        await store.append("a", numbered(4, 4))
        assert await take(subscription, 1) == [4]
    with pytest.raises(
        HistoryReplacedError, match=r"position 5 is beyond the last event, which is at 4: .* resume"
    ):
        async with store.subscribe(after=5):
            pass
    assert (await store.read_all(after=5)).events == []


async def test_a_position_is_checked_later_if_the_store_is_away_first() -> None:
    engine = Replaceable()
    store = Store(engine, batching="never")
    await store.append("s", numbered(1, 3))
    engine.away = True
    async with store.subscribe(after=4) as subscription:
        engine.away = False
        with no_hang(), pytest.raises(HistoryReplacedError, match="position 4 is beyond"):
            await anext(subscription)


class Strict(Replaceable):
    """Refuses positions that its history does not have."""

    unknown: int | None = None

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if query.after == self.unknown and not self.away:
            raise InvalidArgumentError("no event has the position given as after")
        return await super().read_all(query)


async def test_a_position_that_the_store_does_not_know_any_more_is_a_replaced_history() -> None:
    engine = Strict()
    store = Store(engine, batching="never")
    await store.append("s", numbered(1, 2))
    async with store.subscribe() as subscription, task_group() as tasks:
        assert await take(subscription, 2) == [1, 2]

        async def follow() -> None:
            with no_hang(), pytest.raises(HistoryReplacedError, match="no event is at position 2"):
                await anext(subscription)

        tasks.start_soon(follow)
        await wait_all_tasks_blocked()
        engine.unknown = 2
        await come_back_with(engine, store, 7, 8, 9)


@pytest.mark.parametrize("numbers", [[], [1], [7, 8], [7, 8, 9]], ids=str)
async def test_a_history_replaced_while_the_store_was_away_is_an_error(numbers: list[int]) -> None:
    engine = Replaceable()
    store = Store(engine, batching="never")
    await store.append("s", numbered(1, 2))
    errors = 0

    async def follow(subscription: Subscription) -> None:
        nonlocal errors
        for _ in range(2):  # it does not go on the second time either
            with suppress(HistoryReplacedError), no_hang():
                await anext(subscription)
                return
            errors += 1

    async with store.subscribe() as subscription:
        assert await take(subscription, 2) == [1, 2]
        async with task_group() as tasks:
            tasks.start_soon(follow, subscription)
            await wait_all_tasks_blocked()
            await come_back_with(engine, store, *numbers)
    assert errors == 2


async def test_a_history_that_is_the_same_goes_on() -> None:
    engine = Replaceable()
    store = Store(engine, batching="never")
    await store.append("s", [NewEvent("Other", 0), NewEvent("E", 1), NewEvent("Other", 2)])
    found: list[object] = []

    async def follow(subscription: Subscription) -> None:
        found.append((await anext(subscription)).data)

    async with store.subscribe(types=["E"]) as subscription:
        assert await take(subscription, 1) == [1]
        async with task_group() as tasks:
            tasks.start_soon(follow, subscription)
            await wait_all_tasks_blocked()
            engine.away = True
            wake(store)
            await wait_all_tasks_blocked()
            engine.away = False
            await store.append("s", [NewEvent("Other", 3), NewEvent("E", 4)])
    assert found == [4]


async def test_leaving_ends_a_read_that_nobody_waits_for() -> None:
    engine = Watched()
    store = opened(engine)
    ended: list[str] = []
    impatient = anyio.CancelScope()

    async def linger() -> None:
        impatient.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("read")

    engine.before_read = linger
    async with store.subscribe() as subscription:
        with impatient:
            await anext(subscription)
        await wait_all_tasks_blocked()
        assert ended == []
    await wait_all_tasks_blocked()
    assert ended == ["read"]
