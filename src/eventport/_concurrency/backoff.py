"""Pauses between attempts: short at first, then longer, up to a limit."""

from __future__ import annotations

import random

from typing import Final


_JITTER: Final = 0.25


class Backoff:
    """Gives the pause before each next attempt, in seconds.

    Each pause is twice as long as the one before, up to a limit, and a random quarter longer, so
    that many clients which lost the same server do not come back at the same moment.

    Args:
        first: The first pause, in seconds.
        longest: No pause is longer than this, in seconds, apart from the random part.
    """

    def __init__(self, first: float = 0.02, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def next(self) -> float:
        """Return the next pause, in seconds."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause * (1 + random.uniform(0, _JITTER))  # noqa: S311  # no secret depends on it

    def reset(self) -> None:
        """Begin again with the shortest pause: the last attempt was a success."""
        self._next = self._first
