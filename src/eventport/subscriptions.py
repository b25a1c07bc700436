"""Following the store: catch up, then live, with the same query, so that there is no seam."""

from __future__ import annotations

import logging

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self

from anyio import Event

from eventport.commits import AllPage
from eventport.errors import HistoryReplacedError, StoreUnavailableError
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
        self._last: RecordedEvent | None = None
        self._unsure = after > 0
        """Whether the history may have been replaced since the last look at it."""

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
        if self._unsure:
            try:
                await _verify(self._store, self._scanned, None)
            except StoreUnavailableError:
                return
            self._unsure = False

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
            fetch = self._fetch = self._fetch or self._start_fetch(after)
            await fetch.ended.wait()
            if self._fetch is fetch:
                self._fetch = None
            seen = fetch.seen
            try:
                page = fetch.result()
            except StoreUnavailableError as exc:
                failures += 1
                self._unsure = True
                delay = min(0.05 * 2**failures, MAX_RETRY_DELAY)
                _log.warning("subscription: %s; next attempt in %.1f s", exc, delay)
                await self._store.signal.wait(seen, delay)
                continue
            failures, self._unsure = 0, False
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
        self._last = event = self._page.popleft()
        self._position = event.position
        return event

    def _start_fetch(self, after: int) -> _Fetch:
        store, types, prefix = self._store, self._types, self._prefix
        unsure, last = self._unsure and after > 0, self._last

        async def fetch() -> AllPage:
            if unsure:
                await _verify(store, after, last)
            return await store.read_all_page(after, PAGE_SIZE, types, prefix)

        return _Fetch(store.signal.count, fetch)


async def _verify(store: BaseEventStore, after: int, last: RecordedEvent | None) -> None:
    """Raise `HistoryReplacedError` unless a store still holds what was seen of it."""
    remedy = (
        "its history was replaced (a restored backup, a failover that lost commits), or the "
        "position is that of another store; to resume, find the last event that both know, and "
        "subscribe after its position"
    )
    head = await store.last_position(after)
    if after > head:
        message = (
            f"{store!r}: position {after} is beyond the last event, which is at {head}: {remedy}"
        )
        raise HistoryReplacedError(message)
    if last is not None:
        page = await store.read_all_page(last.position - 1, 1, None, None)
        if [(event.position, event.id) for event in page.events] != [(last.position, last.id)]:
            message = (
                f"{store!r}: event {last.id} is not at position {last.position} any more: {remedy}"
            )
            raise HistoryReplacedError(message)


class _Fetch:
    """A page on its way. Who waits for it may give up, and whoever comes next gets it."""

    def __init__(self, seen: int, fetch: Callable[[], Awaitable[AllPage]]) -> None:
        self.seen = seen
        """What the signal had counted before the look at the store."""
        self.ended = Event()
        self._page: AllPage | None = None
        self._error: BaseException | None = None

        async def run() -> None:
            try:
                self._page = await fetch()
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
