"""After-commit hooks run once for each commit, after it, in order, and never harm it."""

from __future__ import annotations

import asyncio
import logging

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

import anyio
import pytest

from anyio import CancelScope, wait_all_tasks_blocked
from tests.tasks import task_group

from eventport import NewEvent, RecordedEvent
from eventport.adapter import Commit, Committed, Outcome, Store, Written

from eventport_conformance.waiting import no_hang
from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")

request_id: Final = ContextVar[str]("request_id")


@pytest.fixture(params=["never", "contended", "always"])
def store(request: pytest.FixtureRequest) -> Store:
    return Store(MemoryEngine(), batching=request.param)


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("T", number) for number in range(first, last + 1)]


async def test_an_append_returns_after_its_hooks_in_their_order(store: Store) -> None:
    seen: list[str] = []

    async def first(events: Sequence[RecordedEvent]) -> None:
        await anyio.sleep(0.01)
        seen.append("first")

    async def second(events: Sequence[RecordedEvent]) -> None:
        seen.append("second")

    assert store.after_commit(first) is first
    store.after_commit(second)
    await store.append("a", numbered(1, 1))
    assert seen == ["first", "second"]


async def test_a_hook_that_fails_is_logged_and_the_commit_stands(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    @store.after_commit
    async def broken(events: Sequence[RecordedEvent]) -> None:
        raise LookupError("no such reader")

    @store.after_commit
    async def working(events: Sequence[RecordedEvent]) -> None:
        seen.append(len(events))

    with caplog.at_level(logging.ERROR, logger="eventport"):
        result = await store.append("a", numbered(1, 1))
    assert result.version == 1
    assert seen == [1]
    [record] = caplog.records
    assert "broken" in record.getMessage()
    assert "the commit stands" in record.getMessage()
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)


async def test_a_cancelled_caller_waits_for_the_hooks(store: Store) -> None:
    go = anyio.Event()
    seen: list[str] = []

    @store.after_commit
    async def slow(events: Sequence[RecordedEvent]) -> None:
        seen.append("begun")
        await go.wait()
        seen.append("ended")

    async def call() -> None:
        with scope:
            await store.append("a", numbered(1, 1))
            seen.append("not cancelled")
        seen.append("returned")

    scope = CancelScope()
    async with task_group() as tasks:
        tasks.start_soon(call)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert seen == ["begun"]
        go.set()
    assert seen == ["begun", "ended", "returned"]
    assert (await store.read("a")).version == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_waits_for_the_hooks(store: Store) -> None:
    go = anyio.Event()
    seen: list[str] = []

    @store.after_commit
    async def slow(events: Sequence[RecordedEvent]) -> None:
        await go.wait()
        seen.append("ended")

    task = asyncio.ensure_future(store.append("a", numbered(1, 1)))
    await wait_all_tasks_blocked()
    for _ in range(2):
        task.cancel()
        await wait_all_tasks_blocked()
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["ended"]


async def test_a_hook_may_close_the_store(store: Store) -> None:
    @store.after_commit
    async def close(events: Sequence[RecordedEvent]) -> None:
        await store.aclose()

    with no_hang():
        assert (await store.append("a", numbered(1, 1))).version == 1


async def test_a_hook_sees_the_context_of_its_caller(store: Store) -> None:
    seen: list[str] = []

    @store.after_commit
    async def remember(events: Sequence[RecordedEvent]) -> None:
        seen.append(request_id.get())

    async def call(name: str) -> None:
        request_id.set(name)
        await store.append("a", [NewEvent("T", name)])

    async with task_group() as tasks:
        for name in ("x", "y", "z"):
            tasks.start_soon(call, name)
    assert sorted(seen) == ["x", "y", "z"]


class WithTimes(MemoryEngine):
    """Its events have times of their own; those without one are hidden at once."""

    times: Sequence[datetime | None] = ()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        (outcome,) = await super().commit(batch)
        assert isinstance(outcome, Committed)
        (one,) = outcome.writes
        return [Committed([Written(one.version, one.positions, one.created, self.times)])]


async def test_hooks_get_each_event_that_can_be_read_with_its_own_time() -> None:
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    given: list[Sequence[RecordedEvent]] = []
    engine = WithTimes()
    async with Store(engine) as store:

        @store.after_commit
        async def hook(events: Sequence[RecordedEvent]) -> None:
            given.append(events)

        engine.times = [first, second]
        await store.append("a", numbered(1, 2))
        engine.times = [None, second]
        await store.append("a", numbered(3, 4))
        engine.times = [None, None]
        await store.append("a", numbered(5, 6))
    assert [[(event.version, event.recorded_at) for event in events] for events in given] == [
        [(1, first), (2, second)],
        [(4, second)],
    ]
