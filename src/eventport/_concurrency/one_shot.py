"""An event that is set once, and that one task at a time waits for."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from anyio import Event, current_time


class OneShot(Protocol):
    """What `anyio.Event` can do, for one waiting task at a time."""

    def set(self) -> object:
        """Wake the task that waits, now or later."""
        ...

    def is_set(self) -> bool:
        """Return whether it was set."""
        ...

    def wait(self) -> Awaitable[None]:
        """Wait until it is set."""
        ...


def one_shot_factory() -> Callable[[], OneShot]:
    """Return what makes such events on the event loop that runs.

    Each `anyio.Event` finds out anew which library runs it, which costs several times what the
    event itself does.
    """
    if runs_on_asyncio():
        return partial(_Future, asyncio.get_running_loop())
    return Event


def running_clock() -> Callable[[], float]:
    """Return the clock of the event loop that runs, for the same reason."""
    return asyncio.get_running_loop().time if runs_on_asyncio() else current_time


def runs_on_asyncio() -> bool:
    """Return whether the running task is one of asyncio's."""
    try:
        return asyncio.current_task() is not None  # there is none if trio is a guest of the loop
    except RuntimeError:
        return False


class _Future:
    """A `OneShot` on asyncio."""

    __slots__ = ("_loop", "_set", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._set = False

    def set(self) -> None:
        self._set = True
        # A cancelled wait has cancelled its future; the next wait has another one.
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_set(self) -> bool:
        return self._set

    def wait(self) -> asyncio.Future[None]:
        self._waiter = self._loop.create_future()
        if self._set:
            self._waiter.set_result(None)
        return self._waiter
