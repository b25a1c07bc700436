"""Waiting for what happens: the one guard against hanging, and the one way to poll.

No verdict may depend on how busy a machine is. So a test waits until something has happened, and
only a guard that is far beyond any load ends it. All of this may be used in an adapter's own tests.
"""

from __future__ import annotations

import time

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Final, Self

import anyio

from eventport_conformance.trial import Deviation


HANG_SECONDS: Final = 120.0
"""How long something may take before it counts as hanging.

With 28 processes on 2 cores, a script that takes a second took 50.
"""

START_SECONDS: Final = 300.0
"""How long it may take to start a process or a server; a busy machine needs many seconds."""

PAUSE: Final = 0.005
"""How many seconds `until` pauses between two looks at a condition."""


def patience(seconds: float = HANG_SECONDS) -> float:
    """Return how many seconds to wait before something counts as hanging.

    They are fewer where less time is left before an outer deadline, so that the failure says what
    hangs, and not only that something did.
    """
    left = anyio.current_effective_deadline() - anyio.current_time()
    return min(seconds, max(0.0, 0.75 * left))


class no_hang:  # noqa: N801  # it reads as a function, as `pytest.raises` does
    """Fail if a block hangs; for `with` as well as for `async with`.

    Args:
        what: What has to happen in the block, for the failure.
        seconds: How long it may take at most.

    Raises:
        Deviation: It hangs. This is an `AssertionError`.
    """

    def __init__(self, what: str = "the block ends", seconds: float = HANG_SECONDS) -> None:
        self._what = what
        self._seconds = seconds
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._seconds = patience(self._seconds)
        self._scope.deadline = anyio.current_time() + self._seconds
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise Deviation(self._what, "it does", f"nothing of it in {self._seconds:.0f} seconds")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Poll until a condition is true, which may be a function or a coroutine function.

    Raises:
        Deviation: It does not become true within `HANG_SECONDS`.
    """
    with no_hang(what):
        while True:
            held = condition()
            if await held if isawaitable(held) else held:
                return
            await anyio.sleep(PAUSE)


def until_in_thread(condition: Callable[[], bool], what: str) -> None:
    """Poll as `until` does, in a test that has no event loop, or in a thread."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise Deviation(what, "it does", f"nothing of it in {HANG_SECONDS:.0f} seconds")
        time.sleep(PAUSE)
