"""Running a reactor: as a projection, with a clock beside it that reaches its timeouts."""

from __future__ import annotations

import time

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from eventport.projections import CheckpointStore, Runner, StreamCheckpoints
from eventport.projections.racing import run_until_first
from eventport.projections.runner import Follow
from eventport.protocols import EventStore
from eventport.reactors.reactor import Reactor
from eventport.reactors.timeouts import Timeouts


_LOOK: Final = 0.2
"""How many seconds to wait at most between two looks at the clock, which may be set meanwhile."""

_REFRESH: Final = 5.0
"""After how many seconds to read what other processes, such as one that retries, have scheduled."""


def _now() -> datetime:
    return datetime.now(UTC)


class ReactorRunner(Runner[Any]):
    """Runs a reactor as `Runner` runs a projection: one at a time, with retries and dead letters.

    Args:
        store: Where the events are, and where the effects go.
        reactor: What to run.
        checkpoints: Where the checkpoint is kept; None for the streams of the store.
        lease: How many seconds the right to run it lasts without a renewal.
        clock: Returns the time, with a time zone; by default that of this host.
    """

    def __init__(
        self,
        store: EventStore,
        reactor: Reactor,
        checkpoints: CheckpointStore[Any] | None = None,
        *,
        lease: float = 15.0,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._bound = reactor.bind(store)
        self._clock = clock
        super().__init__(
            store,
            self._bound,
            checkpoints or StreamCheckpoints(store),
            lease=lease,
            around=self._with_timeouts,
        )

    async def _with_timeouts(self, follow: Follow) -> None:
        # Another runner may have worked since the last time.
        self._bound.once.forget()
        self._bound.timeouts.forget()
        await run_until_first(follow, lambda: _reach(self._bound.timeouts, self._clock))


async def _reach(timeouts: Timeouts, clock: Callable[[], datetime]) -> None:
    """Let timeouts be reached when they are due, until cancelled."""
    refreshed = -_REFRESH
    while True:
        if time.monotonic() - refreshed >= _REFRESH:
            await timeouts.refresh()
            refreshed = time.monotonic()
        changes = timeouts.changed.count
        due = await timeouts.fire(now := clock())
        seconds = _REFRESH if due is None else min((due - now).total_seconds(), _LOOK)
        await timeouts.changed.wait(changes, seconds)
