"""Following the store: catch up, then live, with the same query, so that there is no seam."""

from __future__ import annotations

import logging

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Self

from anyio import CancelScope, Event

from eventport._concurrency.backoff import Backoff
from eventport._concurrency.shielding import start_task
from eventport._engine.codec import copy_event
from eventport._engine.feed import Feed
from eventport._engine.queries import AllPage, AllQuery
from eventport._logs import about
from eventport.errors import InvalidArgumentError, StoreUnavailableError
from eventport.events import RecordedEvent


_log: Final = logging.getLogger("eventport")


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
        self._seen: int | None = None
        """What the signal had counted before the read that found the head; None to read again."""

    @property
    def query(self) -> AllQuery:
        """See `Follower.query`."""
        return self._query

    @property
    def seen(self) -> int | None:
        """See `Follower.seen`."""
        return self._seen

    def trusts(self, losses: int) -> bool:
        """See `Follower.trusts`."""
        return not self._query.after or self._verified == losses

    def take(self, page: AllPage, seen: int, *, shared: bool) -> bool:
        """See `Follower.take`."""
        after = self._query.after
        events = [
            event
            for event in page.events
            if event.position > after and self._query.matches(event.stream, event.type, event.tags)
        ]
        self._page.extend(map(copy_event, events) if shared else events)
        self._query = self._query.resumed(max(after, page.position))
        self._seen = seen if page.position >= page.head else None
        if not self._page:
            self._position = self._query.after
        return bool(self._page) or self._seen is None

    def read_itself(self) -> None:
        """See `Follower.read_itself`."""
        self._seen = None

    @property
    def position(self) -> int:
        """See `Subscription.position`."""
        return self._position

    @property
    def caught_up(self) -> Event:
        """See `Subscription.caught_up`."""
        return self._caught_up

    async def begin(self, *, from_end: bool = False) -> None:
        """Go to the end, or refuse a position beyond it.

        If the store cannot be reached, a position is checked later; the end has to be known now.
        """
        if from_end:
            losses = self._feed.losses()
            page = await self._feed.read(AllQuery(max_count=1))
            self._query = self._query.resumed(page.head)
            self._position, self._verified = page.head, losses
        elif self._query.after:
            with suppress(StoreUnavailableError):
                losses = self._feed.losses()
                await self._feed.history.verify(self._query.after, None)
                self._verified = losses

    def leave(self) -> None:
        """Let the iteration end, and a read that nobody waits for any more."""
        self._left = True
        if self._fetch is not None:
            self._fetch.cancel()
        self._feed.wake(self)
        self._feed.signal.notify()

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Wait for the next event; cancelling this wait loses nothing."""
        self._check_loop()
        backoff = Backoff(0.1)
        while not self._page or self._left:
            if self._left:
                raise StopAsyncIteration
            self._position = self._query.after
            if self._seen is not None:
                await self._feed.wait(self)
                continue
            # A page that an earlier, cancelled call asked for is still on its way: take that.
            fetch = self._fetch = self._fetch or self._start_fetch()
            await fetch.ended.wait()
            if self._left:
                continue
            if self._fetch is fetch:
                self._fetch = None
            try:
                page = fetch.result()
            except StoreUnavailableError as exc:
                self._verified = None
                pause = backoff.next()
                query = self._query
                extra = about(
                    store=self._feed.history.owner, stream=query.stream, position=query.after
                )
                _log.warning("subscription: %s; next attempt in %.1f s", exc, pause, extra=extra)
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
                self._seen = fetch.seen
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
    """A page that is being read. If its caller is cancelled, the next caller gets it."""

    def __init__(self, query: AllQuery, seen: int, fetch: Callable[[], Awaitable[AllPage]]) -> None:
        self.query = query
        self.seen = seen
        """What the signal had counted before the read began."""
        self.ended = Event()
        self._page: AllPage | None = None
        self._error: BaseException | None = None
        self._scope = CancelScope()

        async def run() -> None:
            try:
                with self._scope:
                    self._page = await fetch()
            except BaseException as exc:  # noqa: BLE001  # it is handed to the caller
                self._error = exc
            finally:
                self.ended.set()

        self._task = start_task(run, never_begun=self.ended.set)

    def cancel(self) -> None:
        """End the read."""
        self._scope.cancel()

    def result(self) -> AllPage:
        """Return the page, or raise what kept it from being read."""
        if self._page is not None:
            return self._page
        if isinstance(self._error, Exception):
            raise self._error
        raise StoreUnavailableError("the read was interrupted by the end of the event loop")
