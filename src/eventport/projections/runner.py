"""Running a projection: get the lease, follow the store, hand out batches, survive failures."""

from __future__ import annotations

import logging
import os
import socket
import time

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Final, Generic, TypeVar
from uuid import uuid4

from anyio import sleep, sleep_forever

from eventport._concurrency.shielding import run_shielded
from eventport._concurrency.signal import Signal
from eventport.errors import (
    EventportError,
    InvalidArgumentError,
    LeaseLostError,
    ProjectionStoppedError,
    StoreUnavailableError,
)
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import CheckpointStore, DeadLetter, Lease
from eventport.projections.feed import Feed
from eventport.projections.progress import Meter, Progress, State, find_head
from eventport.projections.projection import Projection, Target
from eventport.projections.racing import first_of
from eventport.protocols import EventStore


C = TypeVar("C")

_log: Final = logging.getLogger("eventport")

_LOOK: Final = 0.05
"""How many seconds to wait before looking again at what nobody tells us of."""

_CAUGHT_UP: Final = 1.0
"""Who handles within so many seconds all that there was at their beginning has caught up."""


class Runner(Generic[C]):
    """Runs one projection. Of any number of runners, in any processes, one is active.

    The others wait for its lease. If the active one dies, another one takes over after at most
    one and a quarter times the lease.

    If a lower generation of the projection is active, this one is a rebuild: it handles
    everything from the beginning, beside the other one, and becomes the active generation at the
    moment when it has caught up. The runners of the other one then end.

    Args:
        store: Where the events are.
        projection: What to run.
        checkpoints: Where the checkpoint is kept, and what handlers get a connection from.
        lease: How many seconds the right to run it lasts without a sign of life. A third of it
            passes between two signs.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection[C],
        checkpoints: CheckpointStore[C],
        *,
        lease: float = 15.0,
    ) -> None:
        if not lease > 0:
            message = f"lease must be a number of seconds above 0, not {lease!r}"
            raise InvalidArgumentError(message)
        self.owner: Final = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        """Its name among the runners."""
        self._store = store
        self._projection = projection
        self._checkpoints = checkpoints
        self._seconds = lease
        self._types = projection.event_types
        self._state: State = "waiting"
        self._meter = Meter()
        self._moved = Signal()
        self._handled = 0
        self._busy = False
        self._feed: Feed | None = None
        self._head = 0
        self._valid_until = 0.0

    @property
    def position(self) -> int:
        """Everything up to this global position has been handled; 0 while it waits its turn."""
        if self._feed is None or self._busy:
            return self._handled
        return max(self._handled, self._feed.passed)

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    async def run(self) -> None:
        """Run the projection until a higher generation takes its place.

        Raises:
            ProjectionStoppedError: an event cannot be handled, and the projection is to stop
                then. The lease is free.
        """
        try:
            while (lease := await self._acquire()) is not None:
                try:
                    await self._follow(lease)
                except LeaseLostError as exc:
                    _log.warning("%s", exc)
                except StoreUnavailableError as exc:
                    await self._pause(1, exc)
                finally:
                    self._feed, self._state = None, "waiting"
                    await run_shielded(_release, lease)
        except BaseException:
            self._state = "stopped"
            raise
        self._state = "retired"

    async def wait_until(self, position: int) -> None:
        """Wait until everything up to a global position has been handled, be it by another runner.

        Limit the time with ``anyio.fail_after``.
        """
        while self.position < position:
            moves = self._moved.count
            if self._feed is None:
                checkpoint = await self._checkpoints.load(self._projection.id)
                if checkpoint.position >= position:
                    return
            await self._moved.wait(moves, _LOOK)

    async def progress(self) -> Progress:
        """Tell how far it is; this looks for the head of the store."""
        position = self.position
        if self._feed is None:
            position = (await self._checkpoints.load(self._projection.id)).position
        self._head = await find_head(self._store, max(position, self._head))
        return Progress(
            position,
            self._head,
            self._meter.total,
            self._meter.rate,
            self._state,
            caught_up=self._state == "live" and not self._busy,
        )

    async def _acquire(self) -> Lease[C] | None:
        """Wait for the lease; None if a higher generation is active."""
        projection = self._projection.id
        while True:
            try:
                if await self._checkpoints.active(projection.name) > projection.generation:
                    return None
                begin = time.monotonic()
                lease = await self._checkpoints.acquire(projection, self.owner, self._seconds)
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", projection, exc)
            else:
                if lease is not None:
                    self._valid_until = begin + self._seconds
                    self._handled = lease.position
                    return lease
            await sleep(self._seconds / 4)

    async def _follow(self, lease: Lease[C]) -> None:
        """Handle events until the lease is lost, or a higher generation is active."""
        projection = self._projection
        async with self._store.subscribe(
            after=lease.position, types=self._types, prefix=projection.prefix
        ) as subscription:
            feed = self._feed = Feed(subscription, 2 * projection.batch_size, projection.wants)
            self._state = "catching up"
            await first_of(
                feed.fill,
                lambda: self._keep(lease),
                lambda: self._work(lease, feed),
                self._watch,
            )

    async def _keep(self, lease: Lease[C]) -> None:
        """Renew the lease; end when a higher generation is active."""
        projection = self._projection.id
        while True:
            await sleep(self._seconds / 3)
            try:
                await self._renew(lease)
                if await self._checkpoints.active(projection.name) > projection.generation:
                    return
            except StoreUnavailableError as exc:
                if time.monotonic() > self._valid_until:
                    raise LeaseLostError(projection) from exc
                _log.warning("projection %s: %s", projection, exc)

    async def _renew(self, lease: Lease[C]) -> None:
        begin = time.monotonic()
        # Positions that were passed without an event of interest are kept on this occasion only.
        # Otherwise each checkpoint that is an event would be a reason for the next one.
        await lease.renew(self.position)
        self._valid_until = begin + self._seconds

    async def _watch(self) -> None:
        """Notice the moment when it has caught up."""
        projection = self._projection.id
        if not await self._checkpoints.active(projection.name):
            await self._checkpoints.activate(projection)  # better an unfinished one than none
        while True:
            # A store that is written to all the time never has nothing new.
            begin = time.monotonic()
            await self.wait_until(await find_head(self._store, self.position))
            if time.monotonic() - begin < _CAUGHT_UP:
                break
        await self._checkpoints.activate(projection)
        self._state = "live"
        await sleep_forever()

    async def _work(self, lease: Lease[C], feed: Feed) -> None:
        projection = self._projection

        async def set_up() -> None:
            async with lease.advance(lease.position) as connection:
                await projection.set_up(Target(connection, projection.id.generation))

        await self._persist(set_up)
        while True:
            events = await feed.take(projection.batch_size)
            self._busy = True
            try:
                await self._handle(lease, events)
            finally:
                self._busy = False
            self._moved.notify()

    async def _handle(self, lease: Lease[C], events: Sequence[RecordedEvent]) -> None:
        """Handle a batch; if that fails, one event after the other, to find the one that fails."""
        if len(events) > 1:
            try:
                return await self._commit(lease, events)
            except LeaseLostError:
                raise
            except Exception as exc:  # noqa: BLE001  # handlers may raise anything
                _log.warning("projection %s: %r; events one by one", self._projection.id, exc)
        for event in events:
            await self._insist(lease, event)
        return None

    async def _insist(self, lease: Lease[C], event: RecordedEvent) -> None:
        """Handle an event, or else stop before it or put it on the list."""
        projection = self._projection
        try:
            return await self._persist(lambda: self._commit(lease, [event]))
        except LeaseLostError:
            raise
        except Exception as exc:
            attempts = projection.retries.attempts
            if projection.on_poison == "stop":
                raise ProjectionStoppedError(projection.id, event, attempts) from exc
            letter = _dead_letter(event, exc, attempts)
        _log.error("projection %s goes on without %s", projection.id, letter)
        return await self._commit(lease, [event], letter)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Try something until that is hopeless, and then raise what it raised at last."""
        for attempt in count(1):
            try:
                return await work()
            except LeaseLostError:
                raise
            except Exception as exc:
                if attempt == self._projection.retries.attempts:
                    raise
                await self._pause(attempt, exc)
        return None

    async def _commit(
        self,
        lease: Lease[C],
        events: Sequence[RecordedEvent],
        letter: DeadLetter | None = None,
    ) -> None:
        """Handle events, or put one on the list, and move the checkpoint; sit outages out."""
        position = events[-1].position
        outages = 0
        while True:
            try:
                if time.monotonic() > self._valid_until:
                    await self._renew(lease)  # this process was held up: does it still have it?
                begin = time.monotonic()
                async with lease.advance(position, dead_letter=letter) as connection:
                    if letter is None:
                        target = Target(connection, self._projection.id.generation)
                        await self._projection.handle(events, target)
                self._valid_until = begin + self._seconds
                break
            except StoreUnavailableError as exc:  # no fault of the events
                outages += 1
                await self._pause(outages, exc)
        self._handled = position
        self._meter.count(len(events))
        self._moved.notify()

    async def _pause(self, failures: int, failure: Exception) -> None:
        seconds = self._projection.retries.pause(failures)
        _log.warning("projection %s: %r; again in %.2f s", self._projection.id, failure, seconds)
        await sleep(seconds)


def _dead_letter(event: RecordedEvent, error: Exception, attempts: int) -> DeadLetter:
    return DeadLetter(
        event.position,
        event.stream,
        event.version,
        event.type,
        _storable(f"{type(error).__name__}: {error}"),
        attempts,
        datetime.now(UTC),
    )


def _storable(text: str) -> str:
    """Return a text without what no backend can store, and not too much of it."""
    return text[:2000].encode(errors="backslashreplace").decode().replace("\0", "\\0")


async def _release(lease: Lease[C]) -> None:
    try:
        await lease.release()
    except EventportError as exc:  # it will run out
        _log.info("lease not released: %s", exc)
