"""Cancelling an operation at its k-th wait, for every k."""

from __future__ import annotations

import asyncio
import types

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio

from eventport_conformance.trial import Deviation


if TYPE_CHECKING:
    from eventport_conformance.harness import Backend


How: TypeAlias = Literal["scope", "task"]
"""By an anyio cancel scope, or by asyncio's own `Task.cancel`."""

MOST_WAITS = 300
"""An operation that waits more often than this is no longer followed."""


@dataclass(frozen=True)
class Cancelled:
    """What came of an operation that was cancelled once."""

    how: How
    wait: int
    """At which wait, counted from 0, it was cancelled."""
    reached: bool
    """Whether it waited that often; if not, this was a run without a cancellation."""
    finished: bool
    """Whether it came to its end all the same."""

    def __str__(self) -> str:
        return f"cancelled by {self.how} at wait {self.wait}"


def ways(backend: Backend) -> tuple[How, ...]:
    """Return the ways to cancel that there are on an event loop."""
    return ("scope", "task") if backend == "asyncio" else ("scope",)


async def cancel_everywhere(
    backend: Backend, operation: Callable[[], Coroutine[Any, Any, Any]]
) -> AsyncGenerator[Cancelled, None]:
    """Run an operation repeatedly, each time cancelled one wait later, in every way.

    After each run the caller checks what it has left. The last run of each way is the
    one that has fewer waits than that, and so was not cancelled.
    """
    for how in ways(backend):
        for wait in range(MOST_WAITS):
            run = await _cancelled_at(how, wait, operation)
            yield run
            if wait == 0 and not run.reached:
                what = "the operation waits, so that others get a turn"
                raise Deviation(what, "at least one wait", "none")
            if not run.reached:
                break


async def _cancelled_at(
    how: How, wait: int, operation: Callable[[], Coroutine[Any, Any, Any]]
) -> Cancelled:
    reached = finished = False

    def noted(cancel: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            nonlocal reached
            reached = True
            cancel()

        return call

    if how == "scope":
        with anyio.CancelScope() as scope:
            await _with_cancellation(operation(), wait, noted(scope.cancel))
            finished = True
        return Cancelled(how, wait, reached, finished)

    async def main() -> None:
        task = asyncio.current_task()
        if task is None:  # cannot be: this runs in a task
            raise RuntimeError
        await _with_cancellation(operation(), wait, noted(task.cancel))

    task = asyncio.ensure_future(main())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    if not task.cancelled():
        task.result()
        finished = True
    return Cancelled(how, wait, reached, finished)


@types.coroutine
def _with_cancellation(
    operation: Coroutine[Any, Any, Any], wait: int, cancel: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Drive a coroutine by hand, and cancel while it waits for that time."""
    waits = 0
    step: Callable[[], Any] = lambda: operation.send(None)  # noqa: E731  # it changes below
    while True:
        try:
            waiting_for = step()
        except StopIteration as end:
            return end.value
        if waits == wait:
            cancel()
        waits += 1
        try:
            value = yield waiting_for
        except GeneratorExit:
            operation.close()
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it is for the coroutine
            step = _thrower(operation, exc)
        else:
            step = _sender(operation, value)


def _sender(operation: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: operation.send(value)


def _thrower(operation: Coroutine[Any, Any, Any], exc: BaseException) -> Callable[[], Any]:
    return lambda: operation.throw(exc)
