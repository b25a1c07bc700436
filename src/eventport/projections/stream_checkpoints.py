"""Checkpoints in the event store itself: on every backend, through the public protocol alone.

The lease and the checkpoint of a projection are the last event of one stream. Each write expects
the version that the writer saw last, so the version is the fencing token: a runner that has lost
the lease cannot write any more. No clocks are compared, and nothing is written while nothing
happens: a stand-by asks whether the lease is still held, by an event that the runner answers with
its next renewal. The lease has run out when that question has stood for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

from anyio import Lock
from msgspec import Struct, to_builtins
from msgspec.structs import replace

from eventport._concurrency.shielding import run_shielded
from eventport.errors import ConcurrencyError, InvalidArgumentError
from eventport.events import NewEvent, RecordedEvent
from eventport.projections.checkpoints import (
    Checkpoint,
    DeadLetter,
    LastEvent,
    ProjectionId,
    refuse_divided,
)
from eventport.projections.refusals import LeaseLostError, NoDeadLetterError
from eventport.projections.standing_by import StandBy
from eventport.protocols import EventStore
from eventport.toolkit_streams import is_toolkit_stream, read_record, toolkit_stream


CHECKPOINT: Final = "eventport.ProjectionCheckpoint"
"""The position of a generation, and its runner."""

ACTIVATED: Final = "eventport.ProjectionActivated"
"""Readers are to use another generation."""

ASKED: Final = "eventport.ProjectionLeaseAsked"
"""A stand-by asks whether the lease is still held."""

GIVEN_UP: Final = "eventport.DeadLetterAdded"
"""An event could not be handled."""

RESOLVED: Final = "eventport.DeadLetterResolved"
"""An event that could not be handled has been handled after all, or discarded."""

_FEW: Final = 200
"""When more events than this were passed, that is worth a write without a look at them."""

_KIND: Final = "projection"
_LETTERS: Final = "dead-letters"

CHECKPOINTS: Final = toolkit_stream(_KIND, "")
"""What the names of streams with checkpoints and active generations begin with."""

DEAD_LETTERS: Final = toolkit_stream(_LETTERS, "")
"""What the names of streams with dead letters begin with."""


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
        version, found, is_asked = await _look(self._store, projection)
        if found.owner not in {None, owner}:
            seconds_left = found.lease if is_asked else found.lease / 2
            if not self._stand_by.has_run_out(projection, version, seconds_left):
                return None
            if not is_asked:
                await self._ask(projection, version)
                return None
        checkpoint = replace(found, owner=owner, store_id=found.store_id or store_id, lease=seconds)
        lease = StreamLease(self._store, projection, checkpoint, version)
        try:
            await lease.take()
        except LeaseLostError:
            return None  # another runner was faster
        return lease

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        _, found, _ = await _look(self._store, projection)
        return found.plain

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """See `CheckpointStore.reset`."""
        refuse_divided(projection, await self.load(projection))
        event = checkpoint_event(Kept(position))
        await self._store.append(_checkpoint_stream(projection), [event])

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        """See `CheckpointStore.divide`."""
        event = checkpoint_event(Kept(partitions=partitions))
        with suppress(ConcurrencyError):  # it was divided, run or reset before
            await self._store.append(_checkpoint_stream(projection), [event], expected="no_stream")
        return (await self.load(projection)).partitions

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
        return await read_letters(self._store, _dead_letter_stream(projection))

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[None]:
        """See `CheckpointStore.resolve`."""
        if position not in {letter.position for letter in await self.dead_letters(projection)}:
            raise NoDeadLetterError(projection, position)
        yield
        event = NewEvent(RESOLVED, {"position": position})
        await self._store.append(_dead_letter_stream(projection), [event])

    async def _ask(self, projection: ProjectionId, version: int) -> None:
        """Ask the runner that has the lease whether it is alive."""
        event = NewEvent(ASKED, {})
        with suppress(ConcurrencyError):  # it is, or another one has asked
            await self._store.append(_checkpoint_stream(projection), [event], expected=version)

    async def _active(self, name: str) -> tuple[int, int]:
        found = await self._store.read(_active_stream(name), backwards=True, max_count=1)
        if not found.events:
            return found.version, 0
        return found.version, read_record(found.events[0], ACTIVATED, _Activated).generation


class StreamLease:
    """A `Lease` on a projection of `StreamCheckpoints`."""

    def __init__(
        self,
        store: EventStore,
        projection: ProjectionId,
        checkpoint: Kept,
        version: int,
    ) -> None:
        self._store = store
        self._projection = projection
        self._current = checkpoint
        self._version = version
        self._passed = checkpoint.position
        """Up to here nothing was passed that is worth a write."""
        self._lock = Lock()  # the renewal must not overtake the end of a batch
        self.checkpoint = checkpoint.plain
        """See `Lease.checkpoint`."""

    async def take(self) -> None:
        """Write that the lease is this one now.

        Raises:
            LeaseLostError: another runner was faster.
        """
        await run_shielded(self._write, 0)

    async def renew(self, position: int) -> None:
        """See `Lease.renew`.

        Nothing is written if the lease was not asked for, and only the toolkit's own events were
        passed since the last write: otherwise each checkpoint would be a reason for the next one.
        """
        async with self._lock:
            version, _, is_asked = await _look(self._store, self._projection)
            unchanged = version == self._version and not is_asked
        if not unchanged or await self._has_passed_others(position):
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
            await self.take()  # a runner that has lost the lease gives nothing up
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
            event = checkpoint_event(changed)
            try:
                result = await self._store.append(stream, [event], expected=self._version)
            except ConcurrencyError as exc:
                # A question in between is answered by this very write.
                if exc.actual != self._version + 1 or not await self._is_asked():
                    raise LeaseLostError(self._projection) from exc
                try:
                    result = await self._store.append(stream, [event], expected=exc.actual)
                except ConcurrencyError as later:
                    raise LeaseLostError(self._projection) from later
            self._current, self._version = changed, result.version
            self._passed = max(self._passed, changed.position)

    async def _is_asked(self) -> bool:
        version, _, is_asked = await _look(self._store, self._projection)
        return is_asked and version == self._version + 1

    async def _has_passed_others(self, position: int) -> bool:
        """Return whether events of a program were passed, rather than the toolkit's own."""
        if position <= self._passed:
            return False
        try:
            found = await self._store.read_all(after=self._passed, max_count=_FEW)
        except InvalidArgumentError:  # a place that the store has not given out
            return True
        others = [
            e for e in found.events if e.position <= position and not is_toolkit_stream(e.stream)
        ]
        if others or found.position < position:
            return True
        self._passed = position
        return False


async def _look(store: EventStore, projection: ProjectionId) -> tuple[int, Kept, bool]:
    """Return the version of a checkpoint's stream, the checkpoint, and whether it is asked for."""
    # These streams grow all the time, and only their end counts.
    found = await store.read(_checkpoint_stream(projection), backwards=True, max_count=2)
    events = list(found.events)
    is_asked = bool(events) and events[0].type == ASKED
    if is_asked:
        del events[0]
    kept = read_record(events[0], CHECKPOINT, Kept) if events else Kept()
    return found.version, kept, is_asked


async def read_letters(store: EventStore, stream: str) -> list[DeadLetter]:
    """Return what is left of the dead letters in a stream, in the order of the store."""
    letters: dict[int, DeadLetter] = {}
    async with aclosing(store.iterate(stream)) as events:
        async for event in events:
            if event.type == RESOLVED:
                letters.pop(read_record(event, RESOLVED, _Resolved).position, None)
            else:
                letter = read_record(event, GIVEN_UP, DeadLetter)
                letters[letter.position] = letter
    return sorted(letters.values(), key=lambda letter: letter.position)


class Kept(Checkpoint, frozen=True):
    """A checkpoint as it stands in its stream."""

    lease: float = 0.0
    """How many seconds the lease lasts after this."""

    @property
    def plain(self) -> Checkpoint:
        """What others need to know of it."""
        return Checkpoint(
            self.position, self.owner, self.last_event, self.store_id, self.partitions
        )


class _Activated(Struct, frozen=True):
    """Which generation readers are to use."""

    generation: int


class _Resolved(Struct, frozen=True):
    """Which dead letter is one no longer."""

    position: int


def checkpoint_event(checkpoint: Kept, metadata: dict[str, Any] | None = None) -> NewEvent:
    """Return the event that keeps a checkpoint."""
    return NewEvent(CHECKPOINT, to_builtins(checkpoint), metadata or {})


def read_checkpoint(event: RecordedEvent) -> Checkpoint:
    """Return the checkpoint that an event of the type `CHECKPOINT` holds.

    Raises:
        CorruptEventError: something else has written to its stream.
    """
    return read_record(event, CHECKPOINT, Kept).plain


def holds_positions(stream: str) -> bool:
    """Return whether a stream keeps positions of its own store, which mean nothing in another."""
    return stream.startswith((CHECKPOINTS, DEAD_LETTERS))


def _active_stream(name: str) -> str:
    return toolkit_stream(_KIND, name)


def _checkpoint_stream(projection: ProjectionId) -> str:
    return toolkit_stream(_KIND, projection.name, str(projection.generation))


def _dead_letter_stream(projection: ProjectionId) -> str:
    return toolkit_stream(_LETTERS, projection.name, str(projection.generation))
