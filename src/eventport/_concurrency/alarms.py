"""Deadlines that hardly ever pass: one timer of the event loop serves all of them."""

from __future__ import annotations

import asyncio
import math

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import Self, TypeAlias

from anyio import CancelScope

from eventport._concurrency.one_shot import runs_on_asyncio


Limit: TypeAlias = "Callable[[float], AbstractContextManager[object, bool]]"
"""Makes a block that is cancelled, and left, at a time of the event loop's clock."""


class Alarms:
    """Calls functions at given times of asyncio's clock, unless they are cleared before.

    A timer of its own for each call costs more than the rest of what the core does in a read.
    Here, an alarm that is cleared costs next to nothing: the one timer is left as it is, and when
    it goes off, it is set to the earliest alarm that there is by then.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._alarms: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def set(self, when: float, ring: Callable[[], object]) -> int:
        """Set an alarm, and return what clears it."""
        number = next(self._numbers)
        self._alarms[number] = when, ring
        if when < self._next:
            self._start(when)
        return number

    def clear(self, number: int) -> None:
        """Clear an alarm, which may have gone off."""
        self._alarms.pop(number, None)

    def limit(self, when: float) -> _Limited:
        """Return a block that is cancelled, and left, at that time."""
        return _Limited(self, when)

    def _start(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        self._timer, self._next = None, math.inf
        for number in [number for number, (when, _) in self._alarms.items() if when <= now]:
            _, ring = self._alarms.pop(number, (now, _nothing))
            ring()
        if self._alarms:
            self._start(min(when for when, _ in self._alarms.values()))


class _Limited:
    """A block that is cancelled at some time, as `asyncio.timeout` does, but left without error."""

    __slots__ = ("_alarms", "_cancelling", "_is_over", "_number", "_task", "_when")

    def __init__(self, alarms: Alarms, when: float) -> None:
        self._alarms = alarms
        self._when = when
        self._is_over = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # it is what awaits this
        self._task = task
        self._cancelling = task.cancelling()
        self._number = self._alarms.set(self._when, self._cancel)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: object) -> bool:
        self._alarms.clear(self._number)
        if not self._is_over:
            return False
        # If others cancel the task, too, the cancellation goes on.
        is_ours = self._task.uncancel() <= self._cancelling
        return is_ours and kind is not None and issubclass(kind, asyncio.CancelledError)

    def _cancel(self) -> None:
        self._is_over = True
        self._task.cancel()


def limit_factory() -> Limit:
    """Return what limits the time of blocks on the event loop that runs."""
    if runs_on_asyncio():
        return Alarms().limit
    return lambda when: CancelScope(deadline=when)


def _nothing() -> None:
    """Do what an alarm does that another one has cleared."""
