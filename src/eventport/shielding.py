"""Work that a cancelled caller must not tear in two: commit, rollback, release."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from anyio import CancelScope, Event, get_cancelled_exc_class


P = ParamSpec("P")
T = TypeVar("T")


async def run_shielded(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run to the end, whatever happens to the caller; only then let its cancellation go on.

    A shielded anyio scope keeps off other scopes, but not asyncio's own ``Task.cancel()``, which
    ``asyncio.timeout`` and ``asyncio.TaskGroup`` use. So the work gets a task of its own.
    """
    ended = Event()
    results: list[T] = []
    errors: list[BaseException] = []

    async def work() -> None:
        try:
            results.append(await function(*args, **kwargs))
        except BaseException as exc:  # noqa: BLE001  # it is handed to the caller
            errors.append(exc)
        finally:
            ended.set()

    task = start_task(work)
    await wait_out(ended)
    del task  # an event loop itself keeps only weak references to its tasks
    if errors:
        raise errors[0]
    return results[0]


async def wait_out(event: Event) -> None:
    """Wait for an event that is bound to come; a cancellation goes on only after it."""
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


def start_task(work: Callable[[], Coroutine[Any, Any, None]]) -> object:
    """Run something in a task of its own, which the caller's cancellation does not reach.

    Args:
        work: What to run. It must not raise.

    Returns:
        What the caller must keep a reference to until the work is done.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio  # noqa: PLC0415  # it is the event loop that we run on, so it is there

        return trio.lowlevel.spawn_system_task(work)
    return loop.create_task(work())
