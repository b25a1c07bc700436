"""Events of a subscription, fetched ahead while the handlers work, and taken in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventport._concurrency.signal import Signal
from eventport.events import RecordedEvent
from eventport.protocols import Subscription


class Feed:
    """A buffer between a subscription and whoever handles its events.

    There is no timer: a batch is what is there at the moment when it is asked for.

    Args:
        subscription: Where from.
        size: How many events to hold at the most.
        wanted: Tells which events to hand out.
    """

    def __init__(
        self, subscription: Subscription, size: int, wanted: Callable[[RecordedEvent], bool]
    ) -> None:
        self._subscription = subscription
        self._size = size
        self._wanted = wanted
        self._ready: deque[RecordedEvent] = deque()
        self._filled = Signal()
        self._emptied = Signal()

    @property
    def passed(self) -> int:
        """How far the store has been looked through, if all events up to there were taken; or 0."""
        return 0 if self._ready else self._subscription.position

    async def fill(self) -> None:
        """Fetch events, for ever."""
        async for event in self._subscription:
            if not self._wanted(event):
                continue
            self._ready.append(event)
            self._filled.notify()
            while len(self._ready) >= self._size:
                await self._emptied.wait(self._emptied.count, None)

    async def take(self, at_most: int) -> list[RecordedEvent]:
        """Wait until there is any event, and return what there is."""
        while not self._ready:
            await self._filled.wait(self._filled.count, None)
        events = [self._ready.popleft() for _ in range(min(at_most, len(self._ready)))]
        self._emptied.notify()
        return events
