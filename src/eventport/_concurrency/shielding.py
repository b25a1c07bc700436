"""Work that a cancelled caller must not tear in two: commit, rollback, release."""

from __future__ import annotations

import asyncio
import contextvars

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from anyio import CancelScope, get_cancelled_exc_class

from eventport._concurrency.one_shot import OneShot, one_shot_factory, runs_on_asyncio


P = ParamSpec("P")
T = TypeVar("T")


async def run_shielded(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run to the end, whatever happens to the caller; its cancellation takes effect only then.

    A shielded anyio scope keeps off other scopes, but not asyncio's own ``Task.cancel()``, which
    ``asyncio.timeout`` and ``asyncio.TaskGroup`` use. So the work gets a task of its own.
    """
    ended = one_shot_factory()()
    results: list[T] = []
    errors: list[BaseException] = []

    async def work() -> None:
        try:
            results.append(await function(*args, **kwargs))
        except BaseException as exc:  # noqa: BLE001  # it is handed to the caller
            errors.append(exc)
        finally:
            ended.set()

    def never_begun() -> None:
        errors.append(asyncio.CancelledError())
        ended.set()

    task = start_task(work, never_begun=never_begun)
    await wait_out(ended)
    del task  # an event loop itself keeps only weak references to its tasks
    if errors:
        raise errors.pop()
    return results[0]


async def wait_out(event: OneShot) -> None:
    """Wait for an event that is sure to be set; a cancellation takes effect only after it."""
    try:
        await event.wait()
    except get_cancelled_exc_class():
        with CancelScope(shield=True):
            while not event.is_set():
                try:
                    await event.wait()
                except asyncio.CancelledError:
                    continue  # asyncio's own kind of cancellation, once more
        raise


def start_task(
    work: Callable[[], Coroutine[Any, Any, None]], *, never_begun: Callable[[], None]
) -> object:
    """Run something in a task of its own, which the caller's cancellation does not reach.

    Args:
        work: What to run, in a copy of the caller's context. It must not raise.
        never_begun: Called instead if the event loop is closed before the work's first step.

    Returns:
        What the caller must keep a reference to until the work is done.
    """
    if not runs_on_asyncio():
        import trio  # noqa: PLC0415  # it is the event loop that we run on, so it is there

        return trio.lowlevel.spawn_system_task(work, context=contextvars.copy_context())
    begun = False

    async def begin() -> None:
        nonlocal begun
        begun = True
        await work()

    def end(_: asyncio.Task[None]) -> None:
        if not begun:
            never_begun()

    task = asyncio.create_task(begin())
    task.add_done_callback(end)
    return task
