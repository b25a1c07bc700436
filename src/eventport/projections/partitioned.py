"""Running the parts of a projection in any number of processes, which share them."""

from __future__ import annotations

import logging

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from anyio import create_task_group, sleep
from anyio.abc import TaskGroup

from eventport._concurrency.shielding import run_shielded
from eventport._logs import about
from eventport.errors import EventportError, StoreUnavailableError
from eventport.projections.checkpoints import CheckpointStore
from eventport.projections.failures import describe
from eventport.projections.partitions import Part
from eventport.projections.progress import Progress, State
from eventport.projections.projection import Projection
from eventport.projections.refusals import PartitionsChangedError
from eventport.projections.runner import PartRunner, make_owner
from eventport.projections.seats import Seats
from eventport.projections.supervising import supervise
from eventport.protocols import EventStore


C = TypeVar("C")
T = TypeVar("T")

_log: Final = logging.getLogger("eventport")

_TURN: Final = 0.1
"""How many seconds to wait until another process has prepared."""


class PartitionedRunner(Generic[C]):
    """Runs the parts of a divided projection, side by side and in any number of processes.

    Processes share the parts: when one comes, the others leave some of theirs to it, each after
    the batch that is being handled. When one dies, the others take its parts over after at most
    two and a half times the lease. Each part is handled by the one process that has its lease. A
    part that cannot go on does not stop the others; it runs again after a pause, as with
    `supervise`.

    Args:
        store: Where the events are.
        projection: What to run. One with a single part is run like any other.
        checkpoints: Where the checkpoints are kept, and what handlers get a connection from.
        lease: How many seconds the leases of the parts last without a renewal.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection[C],
        checkpoints: CheckpointStore[C],
        *,
        lease: float = 15.0,
    ) -> None:
        self.owner: Final = make_owner()
        """Its name among the runners, which all parts have that it runs."""
        self._store = store
        self._projection = projection
        self._checkpoints = checkpoints
        self._seconds = lease
        self._runners: Final = [
            PartRunner(store, Part(projection, number), checkpoints, lease=lease, owner=self.owner)
            for number in range(projection.partitions)
        ]
        self._running: set[int] = set()
        self._state: State = "waiting"

    def __repr__(self) -> str:
        """Show the projection and what it is doing."""
        return f"<PartitionedRunner: {self._projection.id}, {self.state}>"

    @property
    def parts(self) -> dict[int, State]:
        """The parts that fall to this process, by their numbers, and what each is doing."""
        return {number: self._runners[number].state for number in sorted(self._running)}

    @property
    def state(self) -> State:
        """What it is doing: stopped if one of its parts is; live if all of them are."""
        states = self.parts.values()
        for state in ("stopped", "catching up", "live"):
            if state in states:
                return state
        return self._state

    @property
    def error(self) -> Exception | None:
        """What stopped one of its parts; None if none is stopped."""
        for number, state in self.parts.items():
            if state == "stopped":
                return self._runners[number].error
        return None

    async def run(self) -> None:
        """Run the parts that fall to this process until a higher generation takes their place.

        Raises:
            PartitionsChangedError: this generation was begun in another number of parts.
        """
        projection, seconds = self._projection, self._seconds
        self._state = "waiting"
        await self._insist(self._begin)
        seats = Seats(self._checkpoints, projection.id, projection.partitions, self.owner, seconds)
        try:
            async with create_task_group() as group:
                while not await self._insist(self._is_retired):
                    await self._insist(lambda: self._take(seats, group))
                    await sleep(seconds / 4)
                group.cancel_scope.cancel()
        finally:
            await run_shielded(self._leave, seats)
        self._state = "retired"

    async def wait_until(self, position: int) -> None:
        """Wait until everything up to a global position has been handled, in any process.

        Limit the time with ``anyio.fail_after``.
        """
        for runner in self._runners:
            await runner.wait_until(position)

    async def progress(self) -> Progress:
        """Return the progress of all parts together, and how much this process has handled.

        The position is that of the part that is furthest behind.
        """
        found = [await runner.progress() for runner in self._runners]
        return Progress(
            min(one.position for one in found),
            max(one.head for one in found),
            max(one.lag for one in found),
            sum(one.handled for one in found),
            sum(one.rate for one in found),
            self.state,
            caught_up=bool(self._running) and all(found[n].caught_up for n in self._running),
        )

    def about(self) -> dict[str, object]:
        """Return the `extra` of its log records: projection and store."""
        return about(store=self._store, projection=self._projection.id)

    async def _begin(self) -> None:
        projection = self._projection
        if projection.partitions > 1:
            kept = await self._checkpoints.divide(projection.id, projection.partitions)
            if kept != projection.partitions:
                raise PartitionsChangedError(projection.id, kept or 1, projection.partitions)
            await projection.retries.persist(projection.id, self._prepare, self.about())

    async def _prepare(self) -> None:
        """Prepare once for all parts, and not while another process does."""
        projection = self._projection
        while True:
            lease = await self._checkpoints.acquire(projection.id, self.owner, self._seconds)
            if lease is not None:
                break
            await sleep(_TURN)
        try:
            async with lease.advance(0) as connection:
                await projection.set_up(projection.context(self._checkpoints, connection))
        finally:
            await run_shielded(lease.release)

    async def _is_retired(self) -> bool:
        id_ = self._projection.id
        return await self._checkpoints.active(id_.name) > id_.generation

    async def _take(self, seats: Seats, group: TaskGroup) -> None:
        """Start the parts that fall to this process, and leave the others."""
        share = await seats.count()
        for number, runner in enumerate(self._runners):
            if share is None or not share.has(number):
                runner.leave()
            elif number not in self._running:
                self._running.add(number)
                runner.rejoin()
                group.start_soon(self._run, number)

    async def _run(self, number: int) -> None:
        try:
            await supervise(self._runners[number])
        finally:
            self._running.discard(number)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something, however often the checkpoint store is unavailable."""
        while True:
            try:
                return await work()
            except StoreUnavailableError as exc:
                _log.warning("projection %s: %s", self._projection.id, exc, extra=self.about())
            await sleep(self._seconds / 4)

    async def _leave(self, seats: Seats) -> None:
        try:
            await seats.leave()
        except EventportError as exc:  # it will run out
            _log.info("seat not released: %s", describe(exc), extra=self.about())
