"""Proves that a call to the store in memory, cancelled at any await, leaves all or nothing."""

from __future__ import annotations

import types

from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from anyio import CancelScope, create_task_group, wait_all_tasks_blocked

from eventport import NewEvent, RecordedEvent, Subscription

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


ENOUGH = 50


@types.coroutine
def drive(
    awaitable: Awaitable[object], k: int, cancel: Callable[[], object]
) -> Generator[Any, Any, bool]:
    """Await something, cancel when it suspends for the k-th time, and tell if it ended before."""
    inner = awaitable.__await__()
    suspended = 0
    step: Callable[[], Any] = partial(next, inner)
    while True:
        try:
            waited_for = step()
        except StopIteration:
            return suspended <= k
        if suspended == k:
            cancel()
        suspended += 1
        try:
            result = yield waited_for
        except BaseException as exc:  # noqa: BLE001  # it goes where it was going
            step = partial(inner.throw, exc)
        else:
            step = partial(inner.send, result)


async def ends(function: Callable[[], Awaitable[object]], k: int) -> bool:
    with no_hang(), CancelScope() as scope:
        return await drive(function(), k, scope.cancel)
    return False


def events(count: int) -> list[NewEvent]:
    return [NewEvent("Cancelled", n) for n in range(count)]


@pytest.fixture(params=[False, True], ids=["without-hook", "with-hook"])
def store(request: pytest.FixtureRequest) -> MemoryEventStore:
    made = MemoryEventStore()
    if request.param:

        @made.after_commit
        async def _(recorded: object) -> None:
            assert recorded

    return made


async def test_append(store: MemoryEventStore) -> None:
    for k in range(ENOUGH):
        before = (await store.read("s")).version
        ended = await ends(lambda: store.append("s", events(3)), k)
        after = (await store.read("s")).version
        assert after in {before, before + 3}
        assert (await store.append("s", events(1), expected=after)).version == after + 1
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k > 0


async def test_session(store: MemoryEventStore) -> None:
    async def commit() -> None:
        async with store.session() as session:
            await session.read("left")
            await session.append("left", events(2))
            await session.append("right", events(2))

    for k in range(ENOUGH):
        before = (await store.read("left")).version
        ended = await ends(commit, k)
        left, right = (await store.read("left")).version, (await store.read("right")).version
        assert left == right
        assert left in {before, before + 2}
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k >= 3


async def test_reads(store: MemoryEventStore) -> None:
    await store.append("s", events(1_200))

    async def read() -> None:
        assert len((await store.read("s")).events) == 1_200
        async with aclosing(store.iterate("s")) as found:
            assert len([event async for event in found]) == 1_200
        async with aclosing(store.iterate_all(prefix="s")) as found:
            assert len([event async for event in found]) == 1_200

    for k in range(ENOUGH):
        if await ends(read, k):
            break
        assert (await store.append("other", events(1), expected=k)).version == k + 1
    else:
        pytest.fail("it never came to its end")
    assert k > 5


async def give_up_when_asleep(subscription: Subscription) -> None:
    """Cancel the wait for an event as soon as nothing more happens."""
    async with create_task_group() as tasks:
        tasks.start_soon(subscription.__anext__)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_a_subscription_goes_on_where_it_was(store: MemoryEventStore) -> None:
    seen: list[RecordedEvent] = []
    async with store.subscribe() as subscription:
        for number in range(10):
            if number % 2:  # there is nothing yet
                assert not await ends(subscription.__anext__, 0)
            else:
                await give_up_when_asleep(subscription)
            await store.append("s", events(2))
            seen += [await anext(subscription), await anext(subscription)]
    assert [event.version for event in seen] == list(range(1, 21))
