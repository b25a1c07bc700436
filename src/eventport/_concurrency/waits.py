"""The deadline around a wait on a server, which an adapter sets around a part of its call."""

from __future__ import annotations

import asyncio

from types import TracebackType
from typing import Final, Self


_CUT: Final = "the wait for an answer was cut short"


class LimitedWait:
    """A block of asyncio's that is cancelled, and left with `TimeoutError`, at a deadline.

    It is `asyncio.timeout` with an error that says what did not come.
    """

    __slots__ = ("_lacking", "_seconds", "_timer", "_was_cut")

    def __init__(self, seconds: float | None, lacking: str) -> None:
        self._seconds = seconds
        self._lacking = lacking
        self._timer = asyncio.timeout(seconds)
        self._was_cut = False

    def cut(self) -> None:
        """End the wait of a block that has not been left, as if its time were over."""
        if not self._timer.expired():
            self._was_cut = True
            self._timer.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> Self:
        await self._timer.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timer.__aexit__(kind, exc, traceback)
        except TimeoutError:
            text = _CUT if self._was_cut else f"{self._lacking} within {self._seconds:.3g} s"
            raise TimeoutError(text) from exc


def limit_wait(seconds: float | None, lacking: str = "no answer") -> LimitedWait:
    """Return a block, to be entered by `async with`, that limits a wait on a server.

    The store has a deadline around each call of a `Remote` engine. An engine needs this one where
    a part of a call has less time, or where it settles or closes a connection. The block is left
    with a `TimeoutError`. The engine knows what it had sent, and makes of it a
    `ConnectionLostError` or an `AnswerLostError`.

    Args:
        seconds: How long the block may take; None for any time.
        lacking: What the error says that there was not within this time.
    """
    return LimitedWait(seconds, lacking)
