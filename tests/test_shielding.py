"""Shielded work runs to its end, and each cancellation reaches its owner exactly once."""

from __future__ import annotations

import asyncio
import contextvars

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import pytest

from anyio import CancelScope, Event, move_on_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tests.tasks import task_group

from eventport._concurrency.shielding import run_shielded


pytestmark = pytest.mark.usefixtures("in_time")

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])
caller: Final = contextvars.ContextVar[str]("caller")


class Work:
    """Something that takes a few steps and must not be torn."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False

    async def __call__(self, result: str = "done") -> str:
        self.begun = True
        for _ in range(5):
            await checkpoint()
        self.ended = True
        return result


async def test_the_result_comes_through() -> None:
    assert await run_shielded(Work(), result="all of it") == "all of it"


async def test_an_exception_comes_through_as_it_was_raised() -> None:
    error = LookupError("no")

    async def fail() -> None:
        await checkpoint()
        raise error

    with pytest.raises(LookupError) as caught:
        await run_shielded(fail)
    assert caught.value is error


async def test_the_work_sees_the_caller_s_context() -> None:
    async def who() -> str:
        await checkpoint()
        return caller.get()

    caller.set("me")
    assert await run_shielded(who) == "me"


async def test_work_in_a_scope_that_is_cancelled_already_runs_to_its_end() -> None:
    work = Work()
    with CancelScope() as scope:
        scope.cancel()
        await run_shielded(work)
    assert work.ended
    assert scope.cancelled_caught
    await checkpoint()


async def test_work_in_a_scope_that_is_cancelled_later_runs_to_its_end() -> None:
    work = Work()
    after = False
    async with task_group() as tasks:
        with CancelScope() as scope:
            tasks.start_soon(cancel_when_begun, work, scope.cancel)
            await run_shielded(work)
            after = True
        assert work.ended
        assert scope.cancelled_caught
        assert not after
        await checkpoint()


async def cancel_when_begun(work: Work, cancel: Callable[[], object]) -> None:
    while not work.begun:
        await checkpoint()
    assert not work.ended
    cancel()


def past_deadline(scope: CancelScope) -> Callable[[], Awaitable[None]]:
    """Return work that goes on until the deadline of its caller is over."""

    async def work() -> None:
        while not scope.cancel_called:  # noqa: ASYNC110  # nothing tells of it
            await anyio.sleep(0.005)

    return work


async def test_a_deadline_is_still_known_as_its_owner_s() -> None:
    # The work ends when its caller has been cancelled, however late that is.
    with move_on_after(0.01) as inner, CancelScope() as between:
        await run_shielded(past_deadline(inner))
    assert inner.cancelled_caught
    assert not between.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(0.01) as scope:
        await run_shielded(past_deadline(scope))
    await checkpoint()


async def test_an_exception_of_cancelled_work_gives_way_to_the_cancellation() -> None:
    async def fail() -> None:
        await checkpoint()
        raise LookupError("no")

    with CancelScope() as scope:
        scope.cancel()
        await run_shielded(fail)
    assert scope.cancelled_caught


async def test_siblings_of_a_failing_task_end_their_work() -> None:
    work = Work()

    async def fail() -> None:
        await cancel_when_begun(work, lambda: None)
        raise LookupError("no")

    async def run_both() -> None:
        async with task_group() as tasks:
            tasks.start_soon(run_shielded, work)
            tasks.start_soon(fail)

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert work.ended
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


@asyncio_only
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancelled_task_ends_its_work_first(times: int) -> None:
    go = Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        await go.wait()
        ended = True

    task = asyncio.ensure_future(run_shielded(work))
    await wait_all_tasks_blocked()
    for _ in range(times):
        task.cancel()
        await wait_all_tasks_blocked()
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    assert task.cancelled()
    assert task.cancelling() == times


@asyncio_only
async def test_cancellations_of_both_kinds_at_once_end_the_work_first() -> None:
    go, scopes = Event(), list[CancelScope]()

    async def call() -> None:
        with CancelScope() as scope:
            scopes.append(scope)
            await run_shielded(go.wait)

    task = asyncio.ensure_future(call())
    await wait_all_tasks_blocked()
    scopes[0].cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@asyncio_only
async def test_a_task_cancelled_before_its_first_step_does_nothing() -> None:
    work = Work()
    task = asyncio.ensure_future(run_shielded(work))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not work.begun


@asyncio_only
async def test_a_task_cancelled_before_the_works_first_step_ends_the_work() -> None:
    work = Work()
    task = asyncio.ensure_future(run_shielded(work))
    await asyncio.sleep(0)
    assert not work.begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended


@asyncio_only
async def test_a_task_that_had_cancelled_itself_ends_the_work() -> None:
    work = Work()

    async def call() -> None:
        current = asyncio.current_task()
        assert current
        current.cancel()
        await run_shielded(work)

    task = asyncio.ensure_future(call())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended


@asyncio_only
async def test_a_cancellation_in_the_moment_of_the_end_is_not_swallowed() -> None:
    for steps in range(15):
        work = Work()
        task = asyncio.ensure_future(run_shielded(work))
        for _ in range(steps):
            await asyncio.sleep(0)
        late = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is not late
        assert work.ended or steps == 0


@asyncio_only
async def test_a_native_timeout_is_still_known_as_its_owner_s() -> None:
    work = Work()

    async def slow() -> None:
        while not timer.expired():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)
        await work()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01) as timer:
            await run_shielded(slow)
    assert work.ended
    current = asyncio.current_task()
    assert current
    assert current.cancelling() == 0
    await asyncio.sleep(0)


@asyncio_only
async def test_a_native_timeout_that_comes_too_late_changes_nothing() -> None:
    async with asyncio.timeout(3600):
        assert await run_shielded(Work()) == "done"


@asyncio_only
async def test_a_native_task_group_waits_for_the_work() -> None:
    work = Work()

    async def fail() -> None:
        await cancel_when_begun(work, lambda: None)
        raise LookupError("no")

    async def run_both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_shielded(work))
            tasks.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert work.ended
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


def test_a_loop_that_closes_before_the_work_began_does_not_hang() -> None:
    work = Work()

    async def main() -> None:
        # It makes its first step in the very moment in which the loop is stopped.
        asyncio.ensure_future(run_shielded(work)).add_done_callback(ended.append)

    ended: list[asyncio.Future[str]] = []
    asyncio.run(main())
    assert [task.cancelled() for task in ended] == [True]
    assert not work.begun
