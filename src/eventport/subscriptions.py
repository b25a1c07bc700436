"""Following the store: catch up, then live, with the same query, so that there is no seam."""

from __future__ import annotations

import logging

from collections import deque
from typing import TYPE_CHECKING, Final, Self

from anyio import Event

from eventport.commits import AllPage
from eventport.errors import StoreUnavailableError
from eventport.shielding import start_task


if TYPE_CHECKING:
    from eventport.adapter import BaseEventStore
    from eventport.events import RecordedEvent


_log: Final = logging.getLogger("eventport")

PAGE_SIZE: Final = 500
"""How many events a subscription holds at the most: it fetches more when these are consumed."""

MAX_RETRY_DELAY: Final = 5.0
"""The longest pause, in seconds, between two attempts to reach a store that is gone."""


class PollingSubscription:
    """A `Subscription` that pulls pages, and sleeps when there is nothing new until it is woken.

    A wake-up only ends the sleep; what there is to hand out is always found by reading. So a
    lost, late or repeated wake-up costs time at the most.
    """

    def __init__(
        self,
        store: BaseEventStore,
        after: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> None:
        self._store = store
        self._types = types
        self._prefix = prefix
        self._page: deque[RecordedEvent] = deque()
        self._position = after
        self._scanned = after
        self._caught_up = Event()
        self._left = False
        self._fetch: _Fetch | None = None

    @property
    def position(self) -> int:
        """See `Subscription.position`."""
        return self._position

    @property
    def caught_up(self) -> Event:
        """See `Subscription.caught_up`."""
        return self._caught_up

    def leave(self) -> None:
        """Let the iteration end."""
        self._left = True
        self._store.wake()

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Wait for the next event; cancelling this wait loses nothing."""
        self._store.check_event_loop()
        failures = 0
        idle = self._store.poll_interval
        while not self._page or self._left:
            if self._left:
                raise StopAsyncIteration
            self._position = after = self._scanned
            # Who gives up waiting before a page can arrive, again and again, still gets it.
            fetch = self._fetch = self._fetch or _Fetch(
                self._store, after, self._types, self._prefix
            )
            await fetch.ended.wait()
            if self._fetch is fetch:
                self._fetch = None
            seen = fetch.seen
            try:
                page = fetch.result()
            except StoreUnavailableError as exc:
                failures += 1
                delay = min(0.05 * 2**failures, MAX_RETRY_DELAY)
                _log.warning("subscription: %s; next attempt in %.1f s", exc, delay)
                await self._store.signal.wait(seen, delay)
                continue
            failures = 0
            if self._scanned != after:
                continue  # another task of this subscription was faster
            self._page.extend(page.events)
            self._scanned = page.position
            if self._page:
                continue
            self._position = self._scanned
            if page.position >= page.head:
                self._caught_up.set()
                await self._store.signal.wait(seen, idle)
                # While nothing happens, look ever more seldom.
                idle = idle and min(idle * 2, self._store.max_poll_interval)
        event = self._page.popleft()
        self._position = event.position
        return event


class _Fetch:
    """A page on its way. Who waits for it may give up, and whoever comes next gets it."""

    def __init__(
        self,
        store: BaseEventStore,
        after: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> None:
        self.seen = store.signal.count
        """What the signal had counted before the look at the store."""
        self.ended = Event()
        self._page: AllPage | None = None
        self._error: BaseException | None = None

        async def run() -> None:
            try:
                self._page = await store.read_all_page(after, PAGE_SIZE, types, prefix)
            except BaseException as exc:  # noqa: BLE001  # it is handed to who waits
                self._error = exc
            finally:
                self.ended.set()

        self._task = start_task(run, never_begun=self.ended.set)

    def result(self) -> AllPage:
        if self._page is not None:
            return self._page
        if isinstance(self._error, Exception):
            raise self._error
        raise StoreUnavailableError("the read was interrupted by the end of the event loop")
