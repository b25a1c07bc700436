"""Running a projection: get the lease, follow the store, renew the lease, release it."""

from __future__ import annotations

import logging
import os
import socket
import time

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, TypeAlias, TypeVar
from uuid import uuid4

from anyio import move_on_after, sleep, sleep_forever

from eventport._concurrency.cancelling import own_cancellation_only
from eventport._concurrency.shielding import run_shielded
from eventport._concurrency.signal import Signal
from eventport._logs import about
from eventport.errors import EventportError, InvalidArgumentError, StoreUnavailableError
from eventport.projections.checkpoints import CheckpointStore, Lease
from eventport.projections.failures import describe
from eventport.projections.feed import Feed
from eventport.projections.partitions import Part
from eventport.projections.progress import Meter, Progress, State, find_head, lag_behind
from eventport.projections.projection import Projection
from eventport.projections.racing import run_until_first
from eventport.projections.refusals import LeaseLostError
from eventport.projections.resuming import id_of, verify
from eventport.projections.tenure import Tenure
from eventport.projections.worker import Worker
from eventport.protocols import EventStore


C = TypeVar("C")

_log: Final = logging.getLogger("eventport")

_LOOK: Final = 0.05
"""How many seconds to wait between two polls."""

_CAUGHT_UP: Final = 1.0
"""A runner has caught up once it reaches, within this time, the head that it saw at its start."""

_SILENCE: Final = 2.0
"""How many seconds a feed may be silent, at least: reading one page takes its time."""


Follow: TypeAlias = Callable[[], Awaitable[None]]
"""Handles events for as long as a runner may."""

Around: TypeAlias = Callable[[Follow], Awaitable[None]]
"""Awaits the handling of events, and does something beside it."""


class PartRunner(Generic[C]):
    """Runs one part of a projection; see `Runner` for what it does.

    Args:
        store: Where the events are.
        part: What to run.
        checkpoints: Where the checkpoint is kept, and what handlers get a connection from.
        lease: How many seconds the lease lasts without a renewal.
        owner: Its name among the runners; None to make one.
        around: See `Runner`.
    """

    def __init__(
        self,
        store: EventStore,
        part: Part[C],
        checkpoints: CheckpointStore[C],
        *,
        lease: float,
        owner: str | None = None,
        around: Around | None = None,
    ) -> None:
        if not lease > 0:
            message = f"lease must be a number of seconds above 0, not {lease!r}"
            raise InvalidArgumentError(message)
        self.owner: Final = owner or make_owner()
        """Its name among the runners."""
        self._store = store
        self._part = part
        self._projection = part.whole
        self._checkpoints = checkpoints
        self._seconds = lease
        self._around = around or _alone
        self._types = self._projection.event_types
        self._state: State = "waiting"
        self._error: Exception | None = None
        self._meter = Meter()
        self._moved = Signal()
        self._left = Signal()
        self._is_leaving = False
        self._tenure: Tenure[C] | None = None
        self._feed: Feed | None = None
        self._feed_answers = True
        self._head = 0
        self._handled = 0

    def __repr__(self) -> str:
        """Show the projection and what it is doing."""
        return f"<{type(self).__name__}: {self._part.id}, {self.state}>"

    @property
    def position(self) -> int:
        """Everything up to this global position has been handled; 0 while it waits."""
        handled = self._handled if self._tenure is None else self._tenure.handled
        return handled if self._feed is None else max(handled, self._feed.passed)

    @property
    def state(self) -> State:
        """What it is doing. It is live only while the store answers and it holds its lease."""
        if self._state == "live":
            holds = self._tenure is not None and self._tenure.is_valid
            return "live" if holds and self._feed_answers else "catching up"
        return self._state

    @property
    def error(self) -> Exception | None:
        """What ended it; None while it runs, and before."""
        return self._error

    async def run(self) -> None:
        """Run it until a higher generation takes its place, or `leave` is called.

        Raises:
            ProjectionStoppedError: an event cannot be handled, and the projection is to stop
                then. The lease is free.
            CheckpointMismatchError: its checkpoint does not fit the store. The lease is free.
            PartitionsChangedError: this generation was begun in parts. The lease is free.
        """
        self._state, self._error = "waiting", None
        try:
            with own_cancellation_only():
                await self._run()
        except BaseException as exc:
            self._state = "stopped"
            self._error = exc if isinstance(exc, Exception) else None
            raise
        self._state = "waiting" if self._is_leaving else "retired"

    def leave(self) -> None:
        """Let `run` end once the batch that is being handled is done, and release the lease."""
        self._is_leaving = True
        self._left.notify()

    def rejoin(self) -> None:
        """Let `run` go on as if `leave` had not been called."""
        self._is_leaving = False

    async def wait_until(self, position: int) -> None:
        """Wait until everything up to a global position has been handled, by any runner.

        Limit the time with ``anyio.fail_after``.
        """
        while self.position < position:
            moves = self._moved.count
            if self._feed is None:
                checkpoint = await self._checkpoints.load(self._part.id)
                if checkpoint.position >= position:
                    return
            await self._moved.wait(moves, _LOOK)

    async def progress(self) -> Progress:
        """Return its progress; this reads the head of the store."""
        position = self.position
        if self._feed is None:
            position = (await self._checkpoints.load(self._part.id)).position
        self._head = max(await find_head(self._store), position, self._head)
        return Progress(
            position,
            self._head,
            await lag_behind(self._store, self._part, position, self._head),
            self._meter.total,
            self._meter.rate,
            self.state,
            caught_up=self.state == "live" and self._feed is not None and self._feed.is_starved,
        )

    async def _run(self) -> None:
        outages = 0
        while (tenure := await self._acquire()) is not None:
            begin, unavailable = tenure.handled, False
            try:
                self._tenure = tenure
                await verify(self._store, self._part.id, tenure.lease.checkpoint)
                await self._around(partial(self._follow, tenure))
            except LeaseLostError as exc:
                _log.warning("%s", exc, extra=self.about())
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", self._part.id, exc, extra=self.about())
                unavailable = True
            finally:
                worked = tenure.handled > begin or self._state == "live"
                self._handled = tenure.handled
                self._feed = self._tenure = None
                self._state = "waiting"
                await run_shielded(self._release, tenure.lease)
            if worked or not unavailable:
                outages = 0
            if unavailable:
                outages += 1
                await sleep(self._pause(outages))

    def about(self) -> dict[str, object]:
        """Return the `extra` of its log records: projection, store and position."""
        return about(store=self._store, projection=self._part.id, position=self.position)

    def _pause(self, outages: int) -> float:
        pause = self._projection.retries.pause(outages)
        # Stand-bys ask four times in a lease: they must be faster than one that cannot read.
        return pause if self._feed_answers else max(pause, self._seconds / 2)

    async def _acquire(self) -> Tenure[C] | None:
        """Wait for the lease; None if a higher generation is active, or it is to leave."""
        part = self._part.id
        while not self._is_leaving:
            leaves = self._left.count
            try:
                if await self._is_retired():
                    return None
                begin = time.monotonic()
                lease = await self._checkpoints.acquire(
                    part, self.owner, self._seconds, id_of(self._store)
                )
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", part, exc, extra=self.about())
            else:
                if lease is not None:
                    return Tenure(lease, self._seconds, begin)
            await self._left.wait(leaves, self._seconds / 4)
        return None

    async def _is_retired(self) -> bool:
        whole = self._projection.id
        return await self._checkpoints.active(whole.name) > whole.generation

    async def _follow(self, tenure: Tenure[C]) -> None:
        """Handle events until the lease is lost or given up, or a higher generation is active."""
        projection = self._projection
        async with self._store.subscribe(
            after=tenure.handled,
            types=self._types,
            prefix=projection.prefix,
            query=projection.query,
        ) as subscription:
            feed = self._feed = Feed(subscription, 2 * projection.batch_size, self._part.wants)
            self._feed_answers = True
            self._state = "catching up"
            context = partial(projection.context, self._checkpoints)
            worker = Worker(self._part, context, tenure, feed, self._meter, self._moved, self.about)
            await run_until_first(
                feed.fill,
                lambda: self._keep(tenure),
                lambda: self._listen(feed),
                worker.run,
                self._watch,
                lambda: self._finish(feed),
            )

    async def _finish(self, feed: Feed) -> None:
        """Wait until it is to leave, and then for the end of the batch that it has in hand."""
        while not self._is_leaving:
            await self._left.wait(self._left.count, None)
        await feed.close()

    async def _keep(self, tenure: Tenure[C]) -> None:
        """Renew the lease; end when a higher generation is active."""
        part = self._part.id
        while True:
            await sleep(self._seconds / 3)
            try:
                # Positions that were passed without an event of interest are kept on this
                # occasion only. Otherwise each checkpoint that is an event would be a reason for
                # the next one.
                await tenure.renew(self.position)
                if await self._is_retired():
                    return
            except StoreUnavailableError as exc:
                if not tenure.is_valid:
                    raise LeaseLostError(part) from exc
                _log.warning("projection %s: %s", part, exc, extra=self.about())

    async def _listen(self, feed: Feed) -> None:
        """Check that the store can be read; a runner that cannot read must not keep its lease."""
        limit = max(self._seconds, _SILENCE)
        since = time.monotonic()
        scanned = -1
        while time.monotonic() - since < limit:
            await sleep(self._seconds / 3)
            if not feed.is_starved or feed.scanned != scanned or await self._is_at_head(feed):
                since, self._feed_answers = time.monotonic(), True
            else:
                self._feed_answers = False
            scanned = feed.scanned
        message = (
            f"projection {self._part.id} has read nothing for {limit:.1f} s, though the "
            "store has more, or does not answer; it releases its lease"
        )
        raise StoreUnavailableError(message)

    async def _is_at_head(self, feed: Feed) -> bool:
        """Return whether a read of the store shows that the feed has nothing to fetch."""
        scanned = feed.scanned
        with move_on_after(max(self._seconds, _SILENCE) / 3):
            try:
                return await find_head(self._store) <= max(scanned, feed.scanned)
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", self._part.id, exc, extra=self.about())
        return False

    async def _watch(self) -> None:
        """Notice the moment when it has caught up."""
        whole = self._projection.id
        if not await self._checkpoints.active(whole.name):
            await self._checkpoints.activate(whole)  # better an unfinished one than none
        while True:
            # A store that is written to all the time never has nothing new.
            begin = time.monotonic()
            try:
                await self.wait_until(await find_head(self._store))
                if time.monotonic() - begin < _CAUGHT_UP:
                    await self._activate()
                    break
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", self._part.id, exc, extra=self.about())
                await sleep(self._seconds / 4)
        self._state = "live"
        await sleep_forever()

    async def _activate(self) -> None:
        """Let readers use this generation once all of its parts have caught up."""
        whole = self._projection
        await self._checkpoints.activate(self._part.id)
        if self._part.id != whole.id:
            for part in whole.parts:
                if await self._checkpoints.active(part.name) < whole.id.generation:
                    return
            await self._checkpoints.activate(whole.id)

    async def _release(self, lease: Lease[C]) -> None:
        try:
            await lease.release()
        except EventportError as exc:  # it will run out
            _log.info("lease not released: %s", describe(exc), extra=self.about())


class Runner(PartRunner[C]):
    """Runs one projection. Of any number of runners, in any processes, one is active.

    The others wait for its lease. If the active one dies, another one takes over after at most
    one and a quarter times the lease. So it does if the active one can no longer read the store.

    If a lower generation of the projection is active, this one is a rebuild: it handles
    everything from the beginning, beside the other one, and becomes the active generation at the
    moment when it has caught up. The runners of the other one then end.

    Args:
        store: Where the events are.
        projection: What to run.
        checkpoints: Where the checkpoint is kept, and what handlers get a connection from.
        lease: How many seconds the right to run it lasts without a renewal. It is renewed
            every third of this time.
        around: What awaits the handling of events, each time that the lease was acquired, and does
            something beside it; None for nothing. It gets a function that handles events until the
            lease is lost or a higher generation is active, and returns when that has ended.

    Raises:
        InvalidArgumentError: the projection is divided; `PartitionedRunner` runs it.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection[C],
        checkpoints: CheckpointStore[C],
        *,
        lease: float = 15.0,
        around: Around | None = None,
    ) -> None:
        if projection.partitions > 1:
            message = f"{projection!r} has {projection.partitions} parts: use PartitionedRunner"
            raise InvalidArgumentError(message)
        super().__init__(store, Part(projection), checkpoints, lease=lease, around=around)


def make_owner() -> str:
    """Return a new name for a runner, which says where it runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


async def _alone(follow: Follow) -> None:
    await follow()
