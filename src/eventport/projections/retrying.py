"""How often to try again, and after how long."""

from __future__ import annotations

import random

from msgspec import Struct

from eventport.errors import InvalidArgumentError
from eventport.validation import check_int


class Retries(Struct, frozen=True):
    """How often an event is tried, and how long to wait in between.

    The pause doubles with each attempt, and is shortened at random by up to a half, so that
    several programs do not come back at the same moment.
    """

    attempts: int = 5
    """How often an event is tried before it is given up."""
    first_pause: float = 0.1
    """How many seconds to wait after the first attempt."""
    max_pause: float = 10.0
    """How many seconds to wait at most."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("attempts", self.attempts, least=1)
        if not 0 <= self.first_pause <= self.max_pause:
            message = (
                "pauses must be 0 <= first_pause <= max_pause, "
                f"not {self.first_pause!r} and {self.max_pause!r}"
            )
            raise InvalidArgumentError(message)

    def pause(self, failures: int) -> float:
        """Return how many seconds to wait after this many failures."""
        whole = min(self.first_pause * 2.0 ** min(failures - 1, 60), self.max_pause)
        return whole * random.uniform(0.5, 1)  # noqa: S311  # no secret depends on it
