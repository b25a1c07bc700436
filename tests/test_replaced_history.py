"""A subscription notices that the history which it followed was replaced."""

from __future__ import annotations

from contextlib import suppress

import pytest

from anyio import wait_all_tasks_blocked
from tests.engines import Watched
from tests.following import (
    Replaceable,
    come_back_with,
    numbered,
    opened,
    take,
    wake,
)
from tests.tasks import task_group

from eventport import (
    HistoryReplacedError,
    InvalidArgumentError,
    NewEvent,
    Subscription,
)
from eventport.adapter import AllPage, AllQuery, Store

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


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
