"""Closing ends what is pending, exactly once, and everything after it is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest

from anyio import CancelScope, wait_all_tasks_blocked
from tests.engines import Slow
from tests.tasks import task_group

from eventport import (
    AppendResult,
    EventStore,
    NewEvent,
    RecordedEvent,
    StoreClosedError,
    StoreUnavailableError,
)
from eventport._engine.queries import PAGE_EVENTS
from eventport.adapter import Store

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.usefixtures("in_time")


def one() -> list[NewEvent]:
    return [NewEvent("T", 1)]


@pytest.mark.parametrize("hooked", [False, True])
async def test_what_was_called_before_ends_first(hooked: bool) -> None:
    engine = Slow()
    store = Store(engine)
    results: list[AppendResult] = []
    seen: list[Sequence[RecordedEvent]] = []

    async def remember(events: Sequence[RecordedEvent]) -> None:
        seen.append(events)

    if hooked:
        store.after_commit(remember)

    async def append() -> None:
        results.append(await store.append("a", one()))

    async with task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(append)
            await wait_all_tasks_blocked()
        tasks.start_soon(store.aclose)
        await wait_all_tasks_blocked()
        with pytest.raises(StoreClosedError):
            await store.append("a", one())
        assert engine.done == []
        engine.let_go()
    assert sorted(result.version for result in results) == [1, 2, 3]
    assert engine.done == ["commit", "commit", "close"]
    assert len(seen) == (3 if hooked else 0)


@pytest.mark.parametrize("hooked", [False, True])
async def test_an_append_that_was_called_just_before_ends_first_or_is_refused(hooked: bool) -> None:
    async def look(events: Sequence[RecordedEvent]) -> None:
        pass

    async def append(store: Store) -> None:
        with suppress(StoreClosedError):
            await store.append("a", one())
            appended.append(store)

    # On trio, tasks that are ready take their steps in any order: so do it many times.
    appended: list[Store] = []
    for _ in range(60):
        engine = Slow()
        store = Store(engine)
        engine.let_go()
        if hooked:
            store.after_commit(look)
        async with task_group() as tasks:
            tasks.start_soon(append, store)
            tasks.start_soon(store.aclose)
        assert engine.done == (["commit", "close"] if store in appended else ["close"])
    assert appended


CALLS: list[Callable[[EventStore], Any]] = [
    lambda store: store.append("a", one()),
    lambda store: store.append("a", []),
    lambda store: store.read("a"),
    lambda store: store.read("a", max_count=0),
    lambda store: anext(store.iterate("a")),
    lambda store: store.aggregate("a", lambda state, _: state, lambda: None),
    lambda store: store.read_all(),
    lambda store: store.read_all(max_count=0),
    lambda store: anext(store.iterate_all()),
    lambda store: store.subscribe().__aenter__(),
    lambda store: store.session().__aenter__(),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
@pytest.mark.parametrize("state", ["closing", "closed"])
async def test_every_later_call_is_refused(call: Callable[[EventStore], Any], state: str) -> None:
    engine = Slow()
    store = Store(engine)
    engine.commit_now.set()
    await store.append("a", one())
    async with task_group() as tasks:
        tasks.start_soon(store.aclose)
        await wait_all_tasks_blocked()
        if state == "closed":
            engine.let_go()
            await wait_all_tasks_blocked()
        with pytest.raises(StoreClosedError, match=r"<Store: .* has been closed"):
            await call(store)
        engine.let_go()
    assert engine.done == ["commit", "close"]


async def test_an_iteration_that_was_begun_is_refused_its_next_page() -> None:
    store = MemoryEventStore()
    await store.append("a", [NewEvent("T", number) for number in range(PAGE_EVENTS + 1)])
    going, going_on = store.iterate("a"), store.iterate_all()
    await anext(going)
    await anext(going_on)
    await store.aclose()
    for iteration in (going, going_on):
        with pytest.raises(StoreClosedError):
            assert [event async for event in iteration]


async def test_closing_twice_closes_once_and_both_wait_for_it() -> None:
    engine = Slow()
    store = Store(engine)
    ended: list[int] = []

    async def close(number: int) -> None:
        await store.aclose()
        ended.append(number)

    async with task_group() as tasks:
        for number in range(3):
            tasks.start_soon(close, number)
        await wait_all_tasks_blocked()
        assert ended == []
        engine.let_go()
    assert sorted(ended) == [0, 1, 2]
    await store.aclose()
    assert engine.done == ["close"]


async def test_closing_goes_on_when_its_caller_is_cancelled() -> None:
    engine = Slow()
    store = Store(engine)
    scope = CancelScope()
    ended: list[str] = []

    async def close() -> None:
        with scope:
            await store.aclose()
        ended.append("closer")

    async with task_group() as tasks:
        tasks.start_soon(close)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert ended == []
        engine.let_go()
    assert ended == ["closer"]
    assert engine.done == ["close"]


async def test_one_who_waits_for_another_s_closing_can_be_cancelled() -> None:
    engine = Slow()
    store = Store(engine)
    async with task_group() as tasks:
        tasks.start_soon(store.aclose)
        await wait_all_tasks_blocked()
        with anyio.move_on_after(0.01) as scope:
            await store.aclose()
        assert scope.cancelled_caught
        engine.let_go()


async def test_a_failure_to_close_is_raised_once_and_the_store_is_closed() -> None:
    engine = Slow()
    store = Store(engine)
    engine.let_go()
    engine.close_error = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        await store.aclose()
    await store.aclose()
    with pytest.raises(StoreClosedError):
        await store.read("a")
    assert engine.done == ["close"]
