"""A subscription hands out every event once, in order, and no wake-up is lost."""

from __future__ import annotations

import logging

import anyio
import pytest

from anyio import move_on_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tests.engines import Watched, nothing
from tests.following import (
    followed,
    numbered,
    opened,
    take,
)
from tests.tasks import task_group

from eventport import (
    CorruptEventError,
    StoreUnavailableError,
)
from eventport._concurrency.signal import Signal
from eventport._engine.queries import PAGE_EVENTS as PAGE_SIZE

from eventport_memory import engine as memory_engine


pytestmark = pytest.mark.usefixtures("in_time")


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
    assert vars(caplog.records[0])["eventport.store"] == "'this store'"
    assert vars(caplog.records[0])["eventport.position"] == 0


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
