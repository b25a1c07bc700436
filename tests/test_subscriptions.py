"""A subscription hands out every event once, in order, and no wake-up is lost."""

from __future__ import annotations

import logging

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from anyio import create_task_group, move_on_after, wait_all_tasks_blocked
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from eventport import (
    CorruptEventError,
    HistoryReplacedError,
    NewEvent,
    StoreClosedError,
    StoreUnavailableError,
    Subscription,
)
from eventport.adapter import AllPage
from eventport.signal import Signal
from eventport.subscriptions import PAGE_SIZE

from eventport_conformance.material import catch_up
from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore
from eventport_memory import store as memory_store


pytestmark = pytest.mark.usefixtures("in_time")


async def nothing() -> None:
    pass


class Watched(MemoryEventStore):
    """A store that tells of its reads, and lets the test act in the middle of them."""

    def __init__(self, size: int = PAGE_SIZE) -> None:
        super().__init__()
        self.size = size
        self.asked: list[int] = []
        self.before_look: Callable[[], Any] = nothing
        self.after_look: Callable[[], Any] = nothing

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        self.asked.append(max_count)
        await self.before_look()
        page = await super()._read_all(after, min(self.size, max_count), types, prefix)
        await self.after_look()
        return page


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
    store = Watched(2)
    await store.append("a", numbered(1, 3))
    async with store.subscribe() as subscription:
        assert await take(subscription, 3) == [1, 2, 3]
        async with task_group() as tasks:
            tasks.start_soon(store.append, "b", numbered(4, 5))
            assert await take(subscription, 2) == [4, 5]
        await store.append("a", numbered(6, 6))
        assert await take(subscription, 1) == [6]


async def test_it_begins_behind_a_position() -> None:
    store = Watched()
    await store.append("a", numbered(1, 5))
    async with store.subscribe(after=3) as subscription:
        assert subscription.position == 3
        assert await take(subscription, 2) == [4, 5]


async def follow_to(store: MemoryEventStore, after: int, end: int, into: list[object]) -> None:
    async with store.subscribe(after=after) as subscription:
        async for event in subscription:
            into.append((event.stream, event.version, event.position))
            if event.position == end:
                return
            if event.position % 7 == after % 7:
                await checkpoint()


@pytest.mark.parametrize("size", [1, 3, PAGE_SIZE])
async def test_nothing_is_missed_or_repeated_while_others_append(size: int) -> None:
    store = Watched(size)
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
    store = Watched(2)
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
    store = Watched(3)
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
    store = Watched(2)
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
    monkeypatch.setattr(memory_store, "_SCAN", 3)
    store = Watched()
    await store.append("a", numbered(1, 10))
    await store.append("b", numbered(11, 11))
    async with store.subscribe(prefix="b") as subscription:
        assert await take(subscription, 1) == [11]
        assert len(store.asked) == 4
        assert not subscription.caught_up.is_set()


async def test_an_empty_store_is_caught_up_with_at_once() -> None:
    store = Watched()
    async with store.subscribe() as subscription:
        await catch_up(subscription)


async def test_a_commit_between_the_look_and_the_sleep_is_not_slept_through() -> None:
    store = Watched()
    committed: list[int] = []

    async def commit_once() -> None:
        if not committed:
            committed.append(1)
            await store.append("a", numbered(7, 7))

    # The look has found nothing, and the sleep has not begun.
    store.after_look = commit_once
    async with store.subscribe() as subscription:
        assert await take(subscription, 1) == [7]
    assert store.poll_interval is None


async def test_commits_that_wake_nobody_are_found_by_looking_again() -> None:
    mine, theirs = Watched(), MemoryEventStore()
    mine.poll_interval = 0.001
    mine._log, mine._streams = theirs._log, theirs._streams
    async with mine.subscribe() as subscription, task_group() as tasks:
        tasks.start_soon(theirs.append, "a", numbered(1, 1))
        assert await take(subscription, 1) == [1]


async def test_while_nothing_happens_it_looks_ever_more_seldom() -> None:
    waits: list[float | None] = []
    store = Watched()
    store.poll_interval, store.max_poll_interval = 0.01, 0.1

    class Impatient(Signal):
        async def wait(self, count: int, at_most: float | None) -> None:
            waits.append(at_most)
            if len(waits) % 6 == 0:
                await store.append("a", numbered(1, 1))

    store.signal = Impatient()
    async with store.subscribe() as subscription:
        await take(subscription, 2)
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1] * 2


async def test_a_store_that_is_gone_for_a_while_is_survived_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Watched()
    await store.append("a", numbered(1, 2))
    waits: list[float | None] = []

    class Impatient(Signal):
        async def wait(self, count: int, at_most: float | None) -> None:
            waits.append(at_most)

    async def fail() -> None:
        if len(store.asked) in {1, 2, 3, 4, 5, 6, 7, 8, 11}:
            raise StoreUnavailableError("no route")

    store.signal = Impatient()
    store.before_look = fail
    with caplog.at_level(logging.WARNING, logger="eventport"):
        async with store.subscribe() as subscription:
            assert await take(subscription, 2) == [1, 2]
            await store.append("a", numbered(3, 4))
            assert await take(subscription, 2) == [3, 4]
            await store.append("a", numbered(5, 5))
            assert await take(subscription, 1) == [5]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1]
    assert caplog.messages[0] == "subscription: no route; next attempt in 0.1 s"
    assert len(caplog.messages) == 9


async def test_a_pause_is_short_again_after_the_store_was_there() -> None:
    store = Watched()
    waits: list[float | None] = []

    class Impatient(Signal):
        async def wait(self, count: int, at_most: float | None) -> None:
            waits.append(at_most)
            if len(waits) == 5:
                await store.append("a", numbered(1, 1))

    async def fail() -> None:
        if len(store.asked) in {1, 2, 4}:
            raise StoreUnavailableError("no route")

    store.signal = Impatient()
    store.before_look = fail
    async with store.subscribe() as subscription:
        assert await take(subscription, 1) == [1]
    assert waits == [0.1, 0.2, None, 0.1, None]


async def test_another_error_comes_through_and_loses_nothing() -> None:
    store = Watched()
    await store.append("a", numbered(1, 1))

    async def fail() -> None:
        raise CorruptEventError("broken")

    store.before_look = fail
    async with store.subscribe() as subscription:
        with pytest.raises(CorruptEventError):
            await anext(subscription)
        store.before_look = nothing
        assert await take(subscription, 1) == [1]


async def test_cancelling_the_wait_loses_nothing() -> None:
    store = Watched(2)
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

            store.after_look = linger
            await anext(subscription)
        assert scope.cancelled_caught
        store.after_look = nothing
        assert subscription.position == 0
        go_on.set()
        assert await take(subscription, 3) == [1, 2, 3]


async def test_closing_the_store_wakes_the_subscriber() -> None:
    store = Watched()
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
    store = Watched()
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
    store = Watched()
    await store.append("a", numbered(1, 3))
    async with store.subscribe() as subscription:
        await take(subscription, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def test_a_slow_consumer_holds_one_page_at_the_most() -> None:
    store = Watched()
    await store.append("a", numbered(1, 2 * PAGE_SIZE + 10))
    async with store.subscribe() as subscription:
        await take(subscription, 1)
        assert store.asked == [PAGE_SIZE]
        await store.append("a", numbered(1, PAGE_SIZE))
        await wait_all_tasks_blocked()
        await take(subscription, PAGE_SIZE - 1)
        assert store.asked == [PAGE_SIZE]
        await take(subscription, 1)
        assert store.asked == [PAGE_SIZE] * 2


async def test_tasks_that_share_a_subscription_get_each_event_once() -> None:
    store = Watched(3)
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
    store = Watched()
    async with store.subscribe() as subscription, task_group() as tasks:
        tasks.start_soon(take, subscription, 1)
        await wait_all_tasks_blocked()
        await anyio.sleep(0.05)
        assert len(store.asked) == 1
        await store.append("a", numbered(1, 1))
    assert len(store.asked) == 2


class Replaceable(MemoryEventStore):
    """A store whose server can be away, and come back with another history."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        if self.away:
            raise StoreUnavailableError("the server is away")
        return await super()._read_all(after, max_count, types, prefix)

    async def come_back_with(self, *numbers: int) -> None:
        """Hold these events only."""
        self.away = True
        self.wake()
        await wait_all_tasks_blocked()
        self._log.clear()
        self._streams.clear()
        self.away = False
        for number in numbers:
            await self.append("s", [NewEvent("E", number)])


async def test_a_position_beyond_the_head_is_refused() -> None:
    store = Watched()
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
    store = Replaceable()
    await store.append("s", numbered(1, 3))
    store.away = True
    async with store.subscribe(after=4) as subscription:
        store.away = False
        with no_hang(), pytest.raises(HistoryReplacedError, match="position 4 is beyond"):
            await anext(subscription)


@pytest.mark.parametrize("numbers", [[], [1], [7, 8], [7, 8, 9]], ids=str)
async def test_a_history_replaced_while_the_store_was_away_is_an_error(numbers: list[int]) -> None:
    store = Replaceable()
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
            await store.come_back_with(*numbers)
    assert errors == 2


async def test_a_history_that_is_the_same_goes_on() -> None:
    store = Replaceable()
    await store.append("s", [NewEvent("Other", 0), NewEvent("E", 1), NewEvent("Other", 2)])
    found: list[object] = []

    async def follow(subscription: Subscription) -> None:
        found.append((await anext(subscription)).data)

    async with store.subscribe(types=["E"]) as subscription:
        assert await take(subscription, 1) == [1]
        async with task_group() as tasks:
            tasks.start_soon(follow, subscription)
            await wait_all_tasks_blocked()
            store.away = True
            store.wake()
            await wait_all_tasks_blocked()
            store.away = False
            await store.append("s", [NewEvent("Other", 3), NewEvent("E", 4)])
    assert found == [4]
