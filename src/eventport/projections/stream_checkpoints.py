"""Checkpoints in the event store itself: on every backend, through the public protocol alone.

The lease and the checkpoint of a projection are the last event of one stream. Each write expects
the version that the writer saw last, so the version is the fencing token: a runner that has lost
the lease cannot write any more. No clocks are compared: a lease has run out when a stand-by has
seen its last event stand unchanged for as long as the lease lasts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from anyio import Lock
from msgspec import Struct, to_builtins
from msgspec.structs import replace

from eventport._concurrency.shielding import run_shielded
from eventport.errors import ConcurrencyError
from eventport.events import NewEvent, RecordedEvent
from eventport.projections.checkpoints import Checkpoint, DeadLetter, LastEvent, ProjectionId
from eventport.projections.refusals import LeaseLostError, NoDeadLetterError
from eventport.projections.standing_by import StandBy
from eventport.protocols import EventStore
from eventport.toolkit_streams import read_record, toolkit_stream


CHECKPOINT: Final = "eventport.ProjectionCheckpoint"
"""The position of a generation, and its runner."""

ACTIVATED: Final = "eventport.ProjectionActivated"
"""Readers are to use another generation."""

GIVEN_UP: Final = "eventport.DeadLetterAdded"
"""An event could not be handled."""

RESOLVED: Final = "eventport.DeadLetterResolved"
"""An event that could not be handled has been handled after all, or discarded."""

_KIND: Final = "projection"
_LETTERS: Final = "dead-letters"


class StreamCheckpoints:
    """A `CheckpointStore` in the streams of an event store; its connection is None.

    The read model is written elsewhere, so after a crash the last batch is handled again:
    handlers must tolerate that.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._stand_by = StandBy()

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> StreamLease | None:
        """See `CheckpointStore.acquire`."""
        version, found = await self._checkpoint(projection)
        if found.owner not in {None, owner} and not self._stand_by.has_run_out(
            projection, version, found.lease
        ):
            return None
        checkpoint = replace(found, owner=owner, store_id=found.store_id or store_id, lease=seconds)
        lease = StreamLease(self._store, projection, checkpoint, version)
        try:
            await lease.renew(checkpoint.position)
        except LeaseLostError:
            return None  # another runner was faster
        return lease

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        _, found = await self._checkpoint(projection)
        return found.plain

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """See `CheckpointStore.reset`."""
        event = _checkpoint_event(_Kept(position))
        await self._store.append(_checkpoint_stream(projection), [event])

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        _, generation = await self._active(name)
        return generation

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        stream = _active_stream(projection.name)
        while True:
            version, generation = await self._active(projection.name)
            if generation >= projection.generation:
                return
            event = NewEvent(ACTIVATED, {"generation": projection.generation})
            try:
                await self._store.append(stream, [event], expected=version)
            except ConcurrencyError:
                continue  # another generation was activated meanwhile
            return

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        letters: dict[int, DeadLetter] = {}
        async with aclosing(self._store.iterate(_dead_letter_stream(projection))) as events:
            async for event in events:
                if event.type == RESOLVED:
                    letters.pop(read_record(event, RESOLVED, _Resolved).position, None)
                else:
                    letter = read_record(event, GIVEN_UP, DeadLetter)
                    letters[letter.position] = letter
        return sorted(letters.values(), key=lambda letter: letter.position)

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[None]:
        """See `CheckpointStore.resolve`."""
        if position not in {letter.position for letter in await self.dead_letters(projection)}:
            raise NoDeadLetterError(projection, position)
        yield
        event = NewEvent(RESOLVED, {"position": position})
        await self._store.append(_dead_letter_stream(projection), [event])

    async def _checkpoint(self, projection: ProjectionId) -> tuple[int, _Kept]:
        version, event = await self._last(_checkpoint_stream(projection))
        return version, _Kept() if event is None else read_record(event, CHECKPOINT, _Kept)

    async def _active(self, name: str) -> tuple[int, int]:
        version, event = await self._last(_active_stream(name))
        if event is None:
            return version, 0
        return version, read_record(event, ACTIVATED, _Activated).generation

    async def _last(self, stream: str) -> tuple[int, RecordedEvent | None]:
        # These streams grow all the time, and only their last event counts.
        found = await self._store.read(stream, backwards=True, max_count=1)
        return found.version, found.events[0] if found.events else None


class StreamLease:
    """A `Lease` on a projection of `StreamCheckpoints`."""

    def __init__(
        self,
        store: EventStore,
        projection: ProjectionId,
        checkpoint: _Kept,
        version: int,
    ) -> None:
        self._store = store
        self._projection = projection
        self._current = checkpoint
        self._version = version
        self._lock = Lock()  # the renewal must not overtake the end of a batch
        self.checkpoint = checkpoint.plain
        """See `Lease.checkpoint`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        await run_shielded(self._write, position)

    @asynccontextmanager
    async def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AsyncGenerator[None]:
        """See `Lease.advance`."""
        yield
        if dead_letter is not None:
            await self.renew(0)  # a runner that has lost the lease gives nothing up
            # First, so that a crash in between repeats it and does not lose it.
            event = NewEvent(GIVEN_UP, to_builtins(dead_letter))
            await self._store.append(_dead_letter_stream(self._projection), [event])
        await run_shielded(self._write, position, last_event)

    async def release(self) -> None:
        """See `Lease.release`."""
        with suppress(LeaseLostError):
            await run_shielded(self._write, 0, frees=True)

    async def _write(
        self, position: int, last_event: LastEvent | None = None, *, frees: bool = False
    ) -> None:
        async with self._lock:
            current = self._current
            changed = replace(
                current,
                position=max(position, current.position),
                owner=None if frees else current.owner,
                last_event=last_event or current.last_event,
            )
            stream = _checkpoint_stream(self._projection)
            event = _checkpoint_event(changed)
            try:
                result = await self._store.append(stream, [event], expected=self._version)
            except ConcurrencyError as exc:
                raise LeaseLostError(self._projection) from exc
            self._current, self._version = changed, result.version


class _Kept(Checkpoint, frozen=True):
    """A checkpoint as it stands in its stream."""

    lease: float = 0.0
    """How many seconds the lease lasts after this."""

    @property
    def plain(self) -> Checkpoint:
        """What others need to know of it."""
        return Checkpoint(self.position, self.owner, self.last_event, self.store_id)


class _Activated(Struct, frozen=True):
    """Which generation readers are to use."""

    generation: int


class _Resolved(Struct, frozen=True):
    """Which dead letter is one no longer."""

    position: int


def _checkpoint_event(checkpoint: _Kept) -> NewEvent:
    return NewEvent(CHECKPOINT, to_builtins(checkpoint))


def holds_positions(stream: str) -> bool:
    """Return whether a stream keeps positions of its own store, which mean nothing in another."""
    return stream.startswith((toolkit_stream(_KIND, ""), toolkit_stream(_LETTERS, "")))


def _active_stream(name: str) -> str:
    return toolkit_stream(_KIND, name)


def _checkpoint_stream(projection: ProjectionId) -> str:
    return toolkit_stream(_KIND, projection.name, str(projection.generation))


def _dead_letter_stream(projection: ProjectionId) -> str:
    return toolkit_stream(_LETTERS, projection.name, str(projection.generation))
