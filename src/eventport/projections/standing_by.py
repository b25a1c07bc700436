"""How a stand-by finds out that a lease has run out."""

from __future__ import annotations

import time

from eventport.projections.checkpoints import ProjectionId


class StandBy:
    """Times, by this process's own monotonic clock, how long leases stand unchanged."""

    def __init__(self) -> None:
        self._seen: dict[ProjectionId, tuple[object, float]] = {}

    def has_run_out(self, projection: ProjectionId, sign: object, seconds: float) -> bool:
        """Return whether a lease has not been renewed for as long as it lasts.

        Args:
            projection: Whose lease.
            sign: A value that each renewal changes.
            seconds: How long the lease lasts.
        """
        now = time.monotonic()
        seen, since = self._seen.get(projection, (None, now))
        if seen != sign:
            self._seen[projection] = sign, now
            return False
        return now - since >= seconds
