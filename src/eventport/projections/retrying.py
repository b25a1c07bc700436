"""How often to try again, and after how long."""

from __future__ import annotations

import logging
import random

from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Final

from anyio import sleep
from msgspec import Struct

from eventport.errors import InvalidArgumentError
from eventport.projections.failures import describe
from eventport.projections.refusals import ENDS
from eventport.validation import check_int


_log: Final = logging.getLogger("eventport")


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

    async def wait(
        self,
        projection: object,
        failures: int,
        failure: Exception,
        extra: Mapping[str, object],
    ) -> None:
        """Log a failure, and wait as long as it says after this many."""
        seconds = self.pause(failures)
        _log.warning(
            "projection %s: %s; again in %.2f s",
            projection,
            describe(failure),
            seconds,
            extra=extra,
        )
        await sleep(seconds)

    async def persist(
        self,
        projection: object,
        work: Callable[[], Awaitable[None]],
        extra: Mapping[str, object],
    ) -> None:
        """Try as often as there are attempts, and then raise the last error.

        Raises:
            LeaseLostError: at once.
            StoreFencedError: at once.
        """
        for attempt in count(1):
            try:
                return await work()
            except ENDS:
                raise
            except Exception as exc:
                if attempt == self.attempts:
                    raise
                await self.wait(projection, attempt, exc, extra)
        return None
