"""Checkpoints in the event store itself: on every backend, through the public protocol alone.

The lease and the checkpoint of a projection are the last event of one stream. Each write expects
the version that the writer saw last, so the version is the fencing token: whoever has lost the
lease cannot write any more. No clocks are compared: a lease has run out when somebody has seen
its last event stand unchanged for as long as the lease lasts.
"""

from __future__ import annotations

import time

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

from anyio import Lock
from msgspec import convert, to_builtins

from eventport._concurrency.shielding import run_shielded
from eventport.errors import ConcurrencyError, LeaseLostError, NoDeadLetterError
from eventport.events import NewEvent
from eventport.projections.checkpoints import Checkpoint, DeadLetter, ProjectionId
from eventport.protocols import EventStore
from eventport.toolkit_streams import toolkit_stream


CHECKPOINT: Final = "eventport.ProjectionCheckpoint"
"""How far a generation is, and who runs it."""

ACTIVATED: Final = "eventport.ProjectionActivated"
"""Readers are to use another generation."""

GIVEN_UP: Final = "eventport.DeadLetterAdded"
"""An event could not be handled."""

RESOLVED: Final = "eventport.DeadLetterResolved"
"""An event that could not be handled has been handled after all, or discarded."""


class StreamCheckpoints:
    """A `CheckpointStore` in the streams of an event store; what it gives as connection is None.

    The read model is written elsewhere, so after a crash the last batch is handled again:
    handlers must not mind that.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._seen: dict[ProjectionId, _Seen] = {}

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float
    ) -> StreamLease | None:
        """See `CheckpointStore.acquire`."""
        stream = _checkpoint_stream(projection)
        version, head = await self._head(stream)
        if head and head["owner"] not in {None, owner}:
            seen = self._seen.get(projection)
            if seen is None or seen.version != version:
                self._seen[projection] = _Seen(version, time.monotonic())
                return None
            if time.monotonic() - seen.since < head["lease"]:
                return None
        position = head["position"] if head else 0
        lease = StreamLease(self._store, projection, owner, seconds, position, version)
        try:
            await lease.renew(position)
        except LeaseLostError:
            return None  # somebody else was faster
        return lease

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        _, head = await self._head(_checkpoint_stream(projection))
        return Checkpoint(head["position"], head["owner"]) if head else Checkpoint(0, None)

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        _, head = await self._head(_active_stream(name))
        return head["generation"] if head else 0

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        stream = _active_stream(projection.name)
        while True:
            version, head = await self._head(stream)
            if head and head["generation"] >= projection.generation:
                return
            event = NewEvent(ACTIVATED, {"generation": projection.generation})
            try:
                await self._store.append(stream, [event], expected=version)
            except ConcurrencyError:
                continue  # somebody has activated another one meanwhile
            return

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        letters: dict[int, DeadLetter] = {}
        async with aclosing(self._store.iterate(_dead_letter_stream(projection))) as events:
            async for event in events:
                data = event.data
                if event.type == GIVEN_UP:
                    letters[data["position"]] = convert(data, DeadLetter)
                else:
                    letters.pop(data["position"], None)
        return sorted(letters.values(), key=lambda letter: letter.position)

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[None]:
        """See `CheckpointStore.resolve`."""
        if position not in {letter.position for letter in await self.dead_letters(projection)}:
            raise NoDeadLetterError(projection, position)
        yield
        event = NewEvent(RESOLVED, {"position": position})
        await self._store.append(_dead_letter_stream(projection), [event])

    async def _head(self, stream: str) -> tuple[int, dict[str, Any]]:
        # These streams grow all the time, and only their last event counts.
        found = await self._store.read(stream, backwards=True, max_count=1)
        return found.version, found.events[0].data if found.events else {}


class StreamLease:
    """A `Lease` on a projection of `StreamCheckpoints`."""

    def __init__(
        self,
        store: EventStore,
        projection: ProjectionId,
        owner: str,
        seconds: float,
        position: int,
        version: int,
    ) -> None:
        self._store = store
        self._projection = projection
        self._owner = owner
        self._seconds = seconds
        self._handled = position
        self._version = version
        self._lock = Lock()  # the renewal must not overtake the end of a batch
        self.position = position
        """See `Lease.position`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        await run_shielded(self._write, position, self._owner)

    @asynccontextmanager
    async def advance(
        self, position: int, *, dead_letter: DeadLetter | None = None
    ) -> AsyncGenerator[None]:
        """See `Lease.advance`."""
        yield
        if dead_letter is not None:
            # First, so that a crash in between repeats it and does not lose it.
            event = NewEvent(GIVEN_UP, to_builtins(dead_letter))
            await self._store.append(_dead_letter_stream(self._projection), [event])
        await self.renew(position)

    async def release(self) -> None:
        """See `Lease.release`."""
        with suppress(LeaseLostError):
            await run_shielded(self._write, self._handled, None)

    async def _write(self, position: int, owner: str | None) -> None:
        async with self._lock:
            handled = max(position, self._handled)
            event = NewEvent(
                CHECKPOINT, {"position": handled, "owner": owner, "lease": self._seconds}
            )
            stream = _checkpoint_stream(self._projection)
            try:
                result = await self._store.append(stream, [event], expected=self._version)
            except ConcurrencyError as exc:
                raise LeaseLostError(self._projection) from exc
            self._handled, self._version = handled, result.version


class _Seen(NamedTuple):
    """A version at which a lease was seen, and since when."""

    version: int
    since: float


def _active_stream(name: str) -> str:
    return toolkit_stream("projection", name)


def _checkpoint_stream(projection: ProjectionId) -> str:
    return toolkit_stream("projection", projection.name, str(projection.generation))


def _dead_letter_stream(projection: ProjectionId) -> str:
    return toolkit_stream("dead-letters", projection.name, str(projection.generation))
