"""How far a projection is, how far it has to go, and how fast it is."""

from __future__ import annotations

import time

from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from msgspec import Struct

from eventport.protocols import EventStore


if TYPE_CHECKING:
    from eventport.projections.partitions import Part


State: TypeAlias = Literal["waiting", "catching up", "live", "retired", "stopped"]
"""What a runner is doing.

Waiting: another runner has the lease. Catching up: it handles what was there when it began, or it
cannot read the store or renew its lease at the moment. Live: it handles new events as they come.
Retired: it has ended because a higher generation is active. Stopped: it has ended otherwise.
"""

_SECONDS: Final = 10.0
"""Over how many seconds the rate is measured."""


class Progress(Struct, frozen=True):
    """How far a runner is."""

    position: int
    """Everything up to this global position has been handled."""
    head: int
    """The last position of the store."""
    lag: int
    """The distance to the head in positions; 0 if no event that it handles is left.

    Positions have gaps, so this is not the number of events.
    """
    handled: int
    """How many events this runner has handled."""
    rate: float
    """How many it has handled a second, in the last ten seconds."""
    state: State
    """What it is doing."""
    caught_up: bool
    """Whether everything that it has fetched is handled."""


class Meter:
    """Counts events, and measures how many there were a second."""

    def __init__(self) -> None:
        self.total = 0
        """How many there were."""
        self._since: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def count(self, events: int) -> None:
        """Count some."""
        self.total += events
        now = time.monotonic()
        self._since.append((now, self.total))
        while self._since[0][0] < now - _SECONDS:
            self._since.popleft()

    @property
    def rate(self) -> float:
        """How many there were a second, in the last ten seconds."""
        now = time.monotonic()
        # The last entry that is too old has the count at the beginning of the ten seconds.
        while len(self._since) > 1 and self._since[1][0] < now - _SECONDS:
            self._since.popleft()
        begin, before = self._since[0]
        return (self.total - before) / max(now - begin, 1e-3)


async def find_head(store: EventStore) -> int:
    """Return the last position of a store, by one look-up."""
    async with store.subscribe(after="end") as end:
        return end.position


async def lag_behind(store: EventStore, part: Part[Any], position: int, head: int) -> int:
    """Return the distance of a part to the head; 0 if no event of its own is left.

    What the toolkit keeps in the store, such as the checkpoint of the projection, does not count.
    """
    projection = part.whole
    async with aclosing(
        store.iterate_all(
            after=position,
            types=projection.event_types,
            prefix=projection.prefix,
            query=projection.query,
        )
    ) as events:
        async for event in events:
            if part.wants(event):
                return max(0, head - position)
    return 0
