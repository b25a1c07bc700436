"""Work that a cancelled caller must not tear in two: commit, rollback, release."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from anyio import CancelScope


P = ParamSpec("P")
T = TypeVar("T")


async def run_shielded(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run to the end, whatever happens to the caller; only then let its cancellation go on.

    A shielded anyio scope keeps off other scopes, but not asyncio's own ``Task.cancel()``, which
    ``asyncio.timeout`` and ``asyncio.TaskGroup`` use. So under asyncio the work gets a task of
    its own, which nobody else can cancel, and a cancellation of the caller is kept back.
    """

    async def work() -> T:
        return await function(*args, **kwargs)

    with CancelScope(shield=True):
        return await (_in_own_task(work) if _runs_on_asyncio() else work())
    raise AssertionError  # a scope that nobody cancels lets everything through


def _runs_on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False  # trio, which knows no cancellation but that of scopes
    return True


async def _in_own_task(work: Callable[[], Awaitable[T]]) -> T:
    task = asyncio.ensure_future(work())
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancellation = exc
    if cancellation is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # it counts as seen: the cancellation is what the caller gets
    raise cancellation
