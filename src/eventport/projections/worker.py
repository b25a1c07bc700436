"""Handing out batches to a projection's handlers, and what happens when they fail."""

from __future__ import annotations

import logging

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from eventport._concurrency.signal import Signal
from eventport._logs import about
from eventport.errors import StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import DeadLetter
from eventport.projections.failures import dead_letter, describe
from eventport.projections.feed import Feed
from eventport.projections.partitions import Part
from eventport.projections.progress import Meter
from eventport.projections.projection import ProjectionContext
from eventport.projections.refusals import (
    ENDS,
    AlreadyHandledError,
    ProjectionStoppedError,
)
from eventport.projections.tenure import Tenure


C = TypeVar("C")

_log: Final = logging.getLogger("eventport")


class Worker(Generic[C]):
    """Handles what a feed gives, as long as the lease is held.

    Args:
        part: What handles the events.
        context: Makes what its handlers get, of a connection.
        tenure: The lease.
        feed: Where the events come from.
        meter: Counts them.
        moved: Is notified whenever some have been handled.
        extra: Returns what log records say besides their text.
    """

    def __init__(
        self,
        part: Part[C],
        context: Callable[[C], ProjectionContext[C]],
        tenure: Tenure[C],
        feed: Feed,
        meter: Meter,
        moved: Signal,
        extra: Callable[[], dict[str, object]],
    ) -> None:
        self._part = part
        self._retries = part.whole.retries
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
        await self._retries.persist(self._part.id, self._set_up, self._extra())
        while True:
            await self._handle(await self._feed.take(self._part.whole.batch_size))
            # If that fails, what was taken stays undone, so that nothing beyond it is kept.
            self._feed.done()
            self._moved.notify()

    async def _set_up(self) -> None:
        lease = self._tenure.lease
        async with lease.advance(lease.checkpoint.position) as connection:
            await self._part.set_up(self._context(connection))

    async def _handle(self, events: Sequence[RecordedEvent]) -> None:
        """Handle a batch; if that fails, one event after the other, to find the one that fails."""
        if len(events) > 1:
            try:
                return await self._commit(events)
            except ENDS:
                raise
            except Exception as exc:  # noqa: BLE001  # handlers may raise anything
                id_ = self._part.id
                extra = self._extra() | about(events[0])
                _log.warning(
                    "projection %s: %s; events one by one", id_, describe(exc), extra=extra
                )
        for event in events:
            await self._insist(event)
        return None

    async def _insist(self, event: RecordedEvent) -> None:
        """Handle an event, or else stop before it or add it to the dead letters."""
        projection, extra = self._part.id, self._extra() | about(event)
        try:
            return await self._retries.persist(projection, lambda: self._commit([event]), extra)
        except ENDS:
            raise
        except Exception as exc:
            attempts = self._retries.attempts
            if self._part.whole.on_poison == "stop":
                raise ProjectionStoppedError(projection, event, attempts, describe(exc)) from exc
            letter = dead_letter(event, exc, attempts)
        _log.error("projection %s continues without %s", projection, letter, extra=extra)
        return await self._commit([event], letter)

    async def _commit(
        self, events: Sequence[RecordedEvent], letter: DeadLetter | None = None
    ) -> None:
        """Handle events, or make one a dead letter, and move the checkpoint; wait for outages."""
        outages = 0
        while True:
            try:
                async with self._tenure.advance(events[-1], letter) as connection:
                    if letter is None:
                        await self._part.handle(events, self._context(connection))
                break
            except AlreadyHandledError:
                self._tenure.handled = events[-1].position
                break
            except StoreUnavailableError as exc:  # no fault of the events
                outages += 1
                extra = self._extra() | about(events[0])
                await self._retries.wait(self._part.id, outages, exc, extra)
        self._meter.count(len(events))
        self._moved.notify()
