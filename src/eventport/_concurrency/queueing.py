"""Requests that wait in a queue, and the task that works on them while there are any."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from anyio.lowlevel import checkpoint

from eventport._concurrency.one_shot import OneShot
from eventport._concurrency.shielding import start_task
from eventport.errors import StoreUnavailableError


T = TypeVar("T")
R = TypeVar("R", bound="Request[Any]")


class Request(Generic[T]):
    """What one caller waits for: an answer, or an error."""

    __slots__ = ("answer", "ended", "error")

    interrupted: ClassVar[str]
    """What is to be said if the event loop ended before the request did."""

    def __init__(self, ended: OneShot) -> None:
        self.ended = ended
        self.answer: T | None = None
        self.error: Exception | None = None

    def end(self) -> None:
        """Give the caller its result; there is none only if the event loop ended early."""
        if self.answer is None and self.error is None:
            self.error = StoreUnavailableError(self.interrupted)
        self.ended.set()

    def result(self) -> T:
        """Return the answer, or raise the error, of a request that has ended."""
        if self.answer is None:
            raise cast("Exception", self.error)
        return self.answer


class Queue(Generic[R]):
    """Requests in the order of their coming, and a task that takes turns while any wait.

    There is no timer: the first turn begins at once, and the task ends with the last request. No
    cancelled caller can tear a turn in two.

    Args:
        take_turn: Takes requests out of the queue, at least one, and ends them or puts them back.
    """

    def __init__(self, take_turn: Callable[[], Awaitable[None]]) -> None:
        # Each can be taken out at once, however many there are.
        self.waiting: Final[OrderedDict[R, None]] = OrderedDict()
        self.is_working = False
        """Whether turns are taken. A caller that does work outside of a turn sets it meanwhile."""
        self._take_turn = take_turn
        self._worker: object = None

    def start(self) -> None:
        """Take turns, in a copy of the caller's context, until no request waits."""
        self.is_working = True
        self._worker = start_task(self._work, never_begun=self.stop)

    def stop(self) -> None:
        """Note that nobody takes turns any more."""
        # Nothing is awaited after the queue was seen empty, so no request can be missed. It is
        # not empty only if the event loop is being closed under our feet.
        self.is_working = False
        while self.waiting:
            self.pop().end()

    def pop(self) -> R:
        """Take the next request out."""
        return self.waiting.popitem(last=False)[0]

    async def _work(self) -> None:
        try:
            while self.waiting:
                await self._take_turn()
                if self.waiting:
                    await checkpoint()  # however many there are, others get a turn
        finally:
            self.stop()
