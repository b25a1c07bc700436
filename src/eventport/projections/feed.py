"""Events of a subscription, fetched ahead while the handlers work, and taken in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventport._concurrency.signal import Signal
from eventport.errors import StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.protocols import Subscription


class Feed:
    """A buffer between a subscription and a worker that handles its events.

    There is no timer: a batch is what is there at the moment when it is asked for.

    Args:
        subscription: Where from.
        size: How many events to hold at most.
        wanted: Returns which events to hand out.
    """

    def __init__(
        self, subscription: Subscription, size: int, wanted: Callable[[RecordedEvent], bool]
    ) -> None:
        self._subscription = subscription
        self._size = size
        self._wanted = wanted
        self._ready: deque[RecordedEvent] = deque()
        self._taken = False
        self._closed = False
        self._done = Signal()
        self._filled = Signal()
        self._emptied = Signal()

    @property
    def passed(self) -> int:
        """The position up to which the store holds nothing that is not handled; 0 if unknown.

        It is unknown while events wait, or were taken and are not done. If handling them fails,
        they never are.
        """
        return 0 if self._ready or self._taken else self._subscription.position

    @property
    def scanned(self) -> int:
        """The position up to which events were fetched, whether they are handled or not."""
        return self._subscription.position

    @property
    def is_starved(self) -> bool:
        """Whether all that was fetched is done, so that only the store can give more."""
        return not self._ready and not self._taken

    async def fill(self) -> None:
        """Fetch events until cancelled.

        Raises:
            StoreUnavailableError: the subscription has ended.
        """
        async for event in self._subscription:
            if not self._wanted(event):
                continue
            self._ready.append(event)
            self._filled.notify()
            while len(self._ready) >= self._size:
                await self._emptied.wait(self._emptied.count, None)
        raise StoreUnavailableError("the subscription ended by itself")

    async def take(self, at_most: int) -> list[RecordedEvent]:
        """Wait until there is an event, and return those that are there; call `done` after them."""
        while self._closed or not self._ready:
            await self._filled.wait(self._filled.count, None)
        events = [self._ready.popleft() for _ in range(min(at_most, len(self._ready)))]
        self._taken = True
        self._emptied.notify()
        return events

    def done(self) -> None:
        """Say that all that was taken has been handled."""
        self._taken = False
        self._done.notify()

    async def close(self) -> None:
        """Hand out nothing more, and wait until all that was taken has been handled."""
        self._closed = True
        while self._taken:
            await self._done.wait(self._done.count, None)
