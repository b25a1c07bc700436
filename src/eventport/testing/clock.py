"""A clock for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final


_START: Final = datetime(2000, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until a test moves it; calling it returns the time.

    A program that takes its clock as a function can be given one, and so can `MemoryEventStore`,
    whose events are then recorded at this time.
    """

    def __init__(self, now: datetime = _START) -> None:
        """Stop the clock.

        Args:
            now: An aware time.
        """
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, by: timedelta) -> datetime:
        """Move the clock by a time, and return the new one.

        It may go back; stores still record no event of a stream before the one in front of it.
        """
        self.now += by
        return self.now
