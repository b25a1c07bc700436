"""Handing out batches to a projection's handlers, and what happens when they fail."""

from __future__ import annotations

import logging

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Final, Generic, TypeVar

from anyio import sleep

from eventport._concurrency.signal import Signal
from eventport._logs import about
from eventport.errors import StoreFencedError, StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import DeadLetter
from eventport.projections.failures import dead_letter, describe
from eventport.projections.feed import Feed
from eventport.projections.progress import Meter
from eventport.projections.projection import Projection, ProjectionContext
from eventport.projections.refusals import (
    AlreadyHandledError,
    LeaseLostError,
    ProjectionStoppedError,
)
from eventport.projections.tenure import Tenure


C = TypeVar("C")

_log: Final = logging.getLogger("eventport")

_END: Final = (LeaseLostError, StoreFencedError)
"""What is no fault of an event, and does not pass: another runner goes on, here or elsewhere."""


class Worker(Generic[C]):
    """Handles what a feed gives, as long as the lease is held.

    Args:
        projection: What handles the events.
        context: Makes what its handlers get, of a connection.
        tenure: The lease.
        feed: Where the events come from.
        meter: Counts them.
        moved: Is notified whenever some have been handled.
        extra: Returns what its log records are about.
    """

    def __init__(
        self,
        projection: Projection[C],
        context: Callable[[C], ProjectionContext[C]],
        tenure: Tenure[C],
        feed: Feed,
        meter: Meter,
        moved: Signal,
        extra: Callable[[], dict[str, object]],
    ) -> None:
        self._projection = projection
        self._context = context
        self._tenure = tenure
        self._feed = feed
        self._meter = meter
        self._moved = moved
        self._extra = extra

    async def run(self) -> None:
        """Handle events until cancelled.

        Raises:
            LeaseLostError: another runner has taken over.
            StoreFencedError: the events of a store that is written to have moved.
            ProjectionStoppedError: an event cannot be handled, and the projection is to stop.
        """
        await self._persist(self._set_up)
        while True:
            await self._handle(await self._feed.take(self._projection.batch_size))
            # If that fails, what was taken stays undone, so that nothing beyond it is kept.
            self._feed.done()
            self._moved.notify()

    async def _set_up(self) -> None:
        lease = self._tenure.lease
        async with lease.advance(lease.checkpoint.position) as connection:
            await self._projection.set_up(self._context(connection))

    async def _handle(self, events: Sequence[RecordedEvent]) -> None:
        """Handle a batch; if that fails, one event after the other, to find the one that fails."""
        if len(events) > 1:
            try:
                return await self._commit(events)
            except _END:
                raise
            except Exception as exc:  # noqa: BLE001  # handlers may raise anything
                id_ = self._projection.id
                extra = self._extra() | about(events[0])
                _log.warning(
                    "projection %s: %s; events one by one", id_, describe(exc), extra=extra
                )
        for event in events:
            await self._insist(event)
        return None

    async def _insist(self, event: RecordedEvent) -> None:
        """Handle an event, or else stop before it or add it to the dead letters."""
        projection = self._projection
        try:
            return await self._persist(lambda: self._commit([event]), event)
        except _END:
            raise
        except Exception as exc:
            attempts = projection.retries.attempts
            if projection.on_poison == "stop":
                raise ProjectionStoppedError(projection.id, event, attempts, describe(exc)) from exc
            letter = dead_letter(event, exc, attempts)
        extra = self._extra() | about(event)
        _log.error("projection %s continues without %s", projection.id, letter, extra=extra)
        return await self._commit([event], letter)

    async def _persist(
        self, work: Callable[[], Awaitable[None]], event: RecordedEvent | None = None
    ) -> None:
        """Try as often as the retries say, and then raise the last error."""
        for attempt in count(1):
            try:
                return await work()
            except _END:
                raise
            except Exception as exc:
                if attempt == self._projection.retries.attempts:
                    raise
                await self._pause(attempt, exc, event)
        return None

    async def _commit(
        self, events: Sequence[RecordedEvent], letter: DeadLetter | None = None
    ) -> None:
        """Handle events, or make one a dead letter, and move the checkpoint; wait for outages."""
        outages = 0
        while True:
            try:
                async with self._tenure.advance(events[-1], letter) as connection:
                    if letter is None:
                        await self._projection.handle(events, self._context(connection))
                break
            except AlreadyHandledError:
                self._tenure.handled = events[-1].position
                break
            except StoreUnavailableError as exc:  # no fault of the events
                outages += 1
                await self._pause(outages, exc, events[0])
        self._meter.count(len(events))
        self._moved.notify()

    async def _pause(self, failures: int, failure: Exception, event: RecordedEvent | None) -> None:
        id_ = self._projection.id
        seconds = self._projection.retries.pause(failures)
        extra = self._extra() | about(event)
        _log.warning(
            "projection %s: %s; again in %.2f s", id_, describe(failure), seconds, extra=extra
        )
        await sleep(seconds)
