"""While nothing happens, one poll serves all idle subscriptions, ever more seldom."""

from __future__ import annotations

import pytest

from anyio import TASK_STATUS_IGNORED, CancelScope, Event, wait_all_tasks_blocked
from anyio.abc import TaskStatus
from tests.engines import Watched
from tests.following import (
    Replaceable,
    feed_of,
    follow,
    followed,
    numbered,
    opened,
    subscription_of,
    take,
)
from tests.tasks import task_group

from eventport import (
    HistoryReplacedError,
    NewEvent,
    RecordedEvent,
    Subscription,
)
from eventport._concurrency.signal import Signal
from eventport.adapter import Store


pytestmark = pytest.mark.usefixtures("in_time")

FILTERS: list[tuple[set[str] | None, str | None]] = [
    (None, None),
    ({"T"}, None),
    ({"T", "Other"}, "a"),
    ({"None"}, None),
    (None, "b"),
]


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
        assert len(engine.asked) == 10
        await opened(engine).append("a", numbered(7, 7))
        await clock.tick()
        assert found == [7] * count
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("count", [1, 64])
async def test_reads_do_not_grow_with_the_number_of_idle_subscriptions(count: int) -> None:
    engine = Watched()
    store = opened(engine)
    found: list[list[object]] = [[] for _ in range(count)]

    async def follow_some(number: int) -> None:
        types, prefix = FILTERS[number % len(FILTERS)]
        async with store.subscribe(types=types, prefix=prefix) as subscription:
            await follow(subscription, found[number])

    async with task_group() as tasks:
        for number in range(count):
            tasks.start_soon(follow_some, number)
        await wait_all_tasks_blocked()
        engine.asked.clear()
        for number in range(10):
            await store.append("ab"[number % 2], numbered(number, number))
            await wait_all_tasks_blocked()
        assert len(engine.asked) == 10
        tasks.cancel_scope.cancel()
    everything, even, odd = list(range(10)), [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]
    wanted = [everything, everything, even, [], odd]
    assert found == [wanted[number % len(FILTERS)] for number in range(count)]


async def test_subscriptions_that_share_a_read_share_no_data() -> None:
    store = opened(Watched())
    found: list[object] = []

    async def change_all() -> None:
        async with store.subscribe() as subscription:
            event = await anext(subscription)
            found.append((repr(event.data), repr(event.metadata)))
            event.data["list"].append("changed")
            event.metadata.clear()

    async with task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(change_all)
        await wait_all_tasks_blocked()
        await store.append("a", [NewEvent("T", {"list": [{"a": 1}]}, {"by": "me"})])
    assert found == [("{'list': [{'a': 1}]}", "{'by': 'me'}")] * 3


async def test_subscriptions_that_share_a_read_get_equal_events() -> None:
    store = opened(Watched())
    found: list[RecordedEvent] = []

    async def follow_one() -> None:
        async with store.subscribe() as subscription:
            found.append(await anext(subscription))

    async with task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(follow_one)
        await wait_all_tasks_blocked()
        await store.append("a", [NewEvent("T", [1], {"by": "me"}, tags=frozenset({"x"}))])
    assert found == [*(await store.read("a")).events] * 2


async def test_who_begins_to_wait_during_a_read_takes_nothing_of_it() -> None:
    """The read was made for those that waited before, who may want less."""
    engine, found, may_read = Watched(), list[object](), Event()
    store = opened(engine)

    async def follow_one(subscription: Subscription) -> None:
        found.extend(await take(subscription, 1))

    async with (
        store.subscribe(prefix="p") as narrow,
        store.subscribe() as wide,
        task_group() as tasks,
    ):
        tasks.start_soon(follow, narrow, found)
        tasks.start_soon(follow_one, wide)
        await wait_all_tasks_blocked()
        await store.append("s", numbered(1, 1))
        await wait_all_tasks_blocked()
        engine.before_read = may_read.wait
        await store.append("s", numbered(2, 2))
        await wait_all_tasks_blocked()
        tasks.start_soon(follow, wide, found)
        await wait_all_tasks_blocked()
        may_read.set()
        await store.append("s", numbered(3, 3))
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert found == [1, 2, 3]


async def test_two_tasks_that_wait_on_one_subscription_share_what_comes() -> None:
    store = opened(Watched())
    found: list[object] = []
    async with store.subscribe() as subscription, task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(follow, subscription, found)
        await wait_all_tasks_blocked()
        for first in (1, 3, 6):
            await store.append("a", numbered(first, first + first // 3 + 1))
            await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert sorted(found, key=str) == list(range(1, 10))


async def test_a_page_that_is_shared_may_end_before_the_head() -> None:
    engine, clock, found = Watched(3), Ticking(), list[list[object]]([[], []])
    feed = feed_of(engine, clock, polls=True)
    async with task_group() as tasks:
        for into in found:
            tasks.start_soon(follow, subscription_of(feed), into)
        await wait_all_tasks_blocked()
        await opened(engine).append("a", numbered(1, 10))
        await clock.tick()
        tasks.cancel_scope.cancel()
    assert found == [list(range(1, 11))] * 2


async def test_polling_ends_with_the_last_idle_subscription() -> None:
    engine, clock = Watched(), Ticking()
    feed = feed_of(engine, clock, polls=True)
    async with task_group() as tasks:
        tasks.start_soon(follow, subscription_of(feed), [])
        await wait_all_tasks_blocked()
        assert feed._serving
        tasks.cancel_scope.cancel()
    engine.asked.clear()
    await clock.tick()
    assert not feed._serving
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


async def test_who_gives_up_and_waits_again_during_a_read_takes_what_it_was_made_for() -> None:
    """Otherwise a reader that is less patient than a read takes would never get anything."""
    engine, may_read, found = Watched(), Event(), list[object]()
    store = opened(engine)
    async with store.subscribe() as subscription, task_group() as tasks:
        impatient = await tasks.start(follow_until_cancelled, subscription, found)
        await wait_all_tasks_blocked()
        engine.before_read = may_read.wait
        await store.append("s", numbered(1, 1))
        await wait_all_tasks_blocked()
        impatient.cancel()
        await wait_all_tasks_blocked()
        tasks.start_soon(follow, subscription, found)
        await wait_all_tasks_blocked()
        asked = len(engine.asked)
        may_read.set()
        await wait_all_tasks_blocked()
        assert (found, len(engine.asked)) == ([1], asked)
        tasks.cancel_scope.cancel()


async def follow_until_cancelled(
    subscription: Subscription,
    found: list[object],
    *,
    task_status: TaskStatus[CancelScope] = TASK_STATUS_IGNORED,
) -> None:
    with CancelScope() as scope:
        task_status.started(scope)
        await follow(subscription, found)
