"""The time for which a runner has the lease, and its progress in it."""

from __future__ import annotations

import time

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from eventport.events import RecordedEvent
from eventport.projections.checkpoints import DeadLetter, LastEvent, Lease


C = TypeVar("C")


class Tenure(Generic[C]):
    """A lease that a runner holds.

    Args:
        lease: What the checkpoint store gave.
        seconds: How long it lasts after each renewal.
        since: When it was asked for, by the monotonic clock.
    """

    def __init__(self, lease: Lease[C], seconds: float, since: float) -> None:
        self.lease = lease
        self.handled = lease.checkpoint.position
        """Everything up to this position has been handled, and is kept as handled."""
        self._seconds = seconds
        self._valid_until = since + seconds

    @property
    def is_valid(self) -> bool:
        """Whether its time has not run out, as far as this process knows."""
        return time.monotonic() <= self._valid_until

    async def renew(self, position: int) -> None:
        """Renew the lease; see `Lease.renew`."""
        begin = time.monotonic()
        await self.lease.renew(position)
        self._valid_until = begin + self._seconds

    @asynccontextmanager
    async def advance(
        self, last: RecordedEvent, dead_letter: DeadLetter | None = None
    ) -> AsyncGenerator[C, None]:
        """Handle events up to a last one in the block; see `Lease.advance`."""
        if not self.is_valid:
            await self.renew(self.handled)  # this process was held up: does it still have it?
        begin = time.monotonic()
        event = LastEvent(last.position, last.stream, last.version, last.id)
        async with self.lease.advance(
            last.position, last_event=event, dead_letter=dead_letter
        ) as connection:
            yield connection
        self._valid_until = begin + self._seconds
        self.handled = last.position
