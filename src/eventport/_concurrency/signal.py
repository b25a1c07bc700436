"""A wake-up that many can wait for and that is never lost between a check and a wait."""

from __future__ import annotations

from anyio import Event, move_on_after


class Signal:
    """Counts how often something happened, and wakes those who wait for the next time.

    Take `count`, read what there is, and if there is nothing new, `wait` with that count: if
    something happened in between, `wait` returns at once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._next: Event | None = None

    def notify(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        if self._next is not None:
            self._next.set()
            self._next = None

    async def wait(self, count: int, at_most: float | None) -> None:
        """Wait until something has happened since `count` was taken, or for `at_most` seconds."""
        if self.count == count:
            if self._next is None:
                self._next = Event()
            with move_on_after(at_most):
                await self._next.wait()
