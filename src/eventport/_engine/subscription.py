"""Following the store: catch up, then live, with the same query, so that there is no seam."""

from __future__ import annotations

import logging

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Self

from anyio import Event

from eventport._concurrency.backoff import Backoff
from eventport._concurrency.shielding import start_task
from eventport._concurrency.signal import Signal
from eventport._engine.history import History
from eventport._engine.queries import AllPage, AllQuery
from eventport.errors import InvalidArgumentError, StoreUnavailableError
from eventport.events import RecordedEvent


_log: Final = logging.getLogger("eventport")


class Feed:
    """What subscriptions of one store share: pages, wake-ups, and how seldom to poll.

    Args:
        read: Fetches a page.
        history: Finds out whether the store still holds what was seen of it.
        losses: Returns how often connections have been lost so far: another server, with another
            history, may have answered since.
        signal: Notified when something may be new, and when the store is closed.
        polls: Whether commits can take place without a wake-up.
        pushed: Returns whether the backend wakes us at the moment, so that polling can be rare.
    """

    FIRST_INTERVAL: Final = 0.01
    LONGEST_INTERVAL: Final = 0.2
    PUSHED_INTERVAL: Final = 5.0
    """Seconds between two polls: at first, after a while, and while the backend wakes us."""

    def __init__(
        self,
        read: Callable[[AllQuery], Awaitable[AllPage]],
        signal: Signal,
        history: History,
        *,
        losses: Callable[[], int],
        polls: bool,
        pushed: Callable[[], bool],
    ) -> None:
        self.read = read
        self.signal = signal
        self.history = history
        self.losses = losses
        self._polls = polls
        self._pushed = pushed

    def interval(self, idle: int) -> float | None:
        """Return the seconds to wait after so many idle polls; None for no end."""
        if not self._polls:
            return None
        longest = self.PUSHED_INTERVAL if self._pushed() else self.LONGEST_INTERVAL
        return min(self.FIRST_INTERVAL * float(1 << min(idle, 20)), longest)


class PollingSubscription:
    """A `Subscription` that pulls pages, and sleeps when there is nothing new until it is woken.

    A wake-up only ends the sleep; what there is to yield is always found by reading. So a lost,
    late or repeated wake-up costs time at most.
    """

    def __init__(self, feed: Feed, query: AllQuery, check_loop: Callable[[], None]) -> None:
        self._check_loop = check_loop
        self._feed = feed
        self._query = query
        self._page: deque[RecordedEvent] = deque()
        self._position = query.after
        self._caught_up = Event()
        self._left = False
        self._fetch: _Fetch | None = None
        self._last: RecordedEvent | None = None
        self._verified: int | None = feed.losses() if not query.after else None
        """How many losses there had been when the history was last verified; None for never."""

    @property
    def position(self) -> int:
        """See `Subscription.position`."""
        return self._position

    @property
    def caught_up(self) -> Event:
        """See `Subscription.caught_up`."""
        return self._caught_up

    async def begin(self) -> None:
        """Refuse a position beyond the head; a store that cannot be reached is asked later."""
        if self._query.after:
            with suppress(StoreUnavailableError):
                losses = self._feed.losses()
                await self._feed.history.verify(self._query.after, None)
                self._verified = losses

    def leave(self) -> None:
        """Let the iteration end."""
        self._left = True
        self._feed.signal.notify()

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Wait for the next event; cancelling this wait loses nothing."""
        self._check_loop()
        backoff = Backoff(0.1)
        idle = 0
        while not self._page or self._left:
            if self._left:
                raise StopAsyncIteration
            self._position = self._query.after
            # A page that an earlier, cancelled call asked for is still on its way: take that.
            fetch = self._fetch = self._fetch or self._start_fetch()
            await fetch.ended.wait()
            if self._fetch is fetch:
                self._fetch = None
            try:
                page = fetch.result()
            except StoreUnavailableError as exc:
                self._verified = None
                pause = backoff.next()
                _log.warning("subscription: %s; next attempt in %.1f s", exc, pause)
                await self._feed.signal.wait(fetch.seen, pause)
                continue
            backoff.reset()
            if self._query is not fetch.query:
                continue  # another task of this subscription was faster
            self._query = fetch.query.resumed(page.position)
            self._page.extend(page.events)
            if self._page:
                continue
            self._position = page.position
            if page.position >= page.head:
                self._caught_up.set()
                await self._feed.signal.wait(fetch.seen, self._feed.interval(idle))
                idle += 1
        self._last = event = self._page.popleft()
        self._position = event.position
        return event

    def _start_fetch(self) -> _Fetch:
        feed, query, last = self._feed, self._query, self._last

        async def fetch() -> AllPage:
            while True:
                losses = feed.losses()
                if query.after and self._verified != losses:
                    await feed.history.verify(query.after, last)
                    self._verified = losses
                try:
                    page = await feed.read(query)
                except InvalidArgumentError:
                    if feed.losses() == losses:
                        raise
                else:
                    # If a connection was lost meanwhile, another history may have answered.
                    if not query.after or feed.losses() == losses:
                        return page

        return _Fetch(query, feed.signal.count, fetch)


class _Fetch:
    """A page on its way. A caller that waits for it may give up, and the next one gets it."""

    def __init__(self, query: AllQuery, seen: int, fetch: Callable[[], Awaitable[AllPage]]) -> None:
        self.query = query
        self.seen = seen
        """What the signal had counted before the read began."""
        self.ended = Event()
        self._page: AllPage | None = None
        self._error: BaseException | None = None

        async def run() -> None:
            try:
                self._page = await fetch()
            except BaseException as exc:  # noqa: BLE001  # it is handed to the caller
                self._error = exc
            finally:
                self.ended.set()

        self._task = start_task(run, never_begun=self.ended.set)

    def result(self) -> AllPage:
        """Return the page, or raise what kept it from being read."""
        if self._page is not None:
            return self._page
        if isinstance(self._error, Exception):
            raise self._error
        raise StoreUnavailableError("the read was interrupted by the end of the event loop")
