"""Checkpoint stores, snapshot stores and a feed with one bug each.

They are made of those in memory.
"""

# They override methods, and do it wrong.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar
from unittest.mock import patch

from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from eventport import EventStore
from eventport._engine.feed import Feed, _common
from eventport.projections import (
    Checkpoint,
    DeadLetter,
    LastEvent,
    MemoryCheckpoints,
    ProjectionId,
    StreamCheckpoints,
)
from eventport.snapshot_stores import MemorySnapshotStore, Snapshot, SnapshotStore

from eventport_conformance import Capabilities, Harness, UrlHarness
from eventport_conformance.notes import DocumentNotes, Notes


H = TypeVar("H", bound=type[Harness])

MUTANTS: Final[list[tuple[type[Harness], str]]] = []
"""Harnesses of stores with a bug, and a clause that finds it."""


def mutant(*killed_by: str) -> Callable[[H], H]:
    """Register a harness, with the clauses that find its bug."""

    def register(harness: H) -> H:
        MUTANTS.extend((harness, id_) for id_ in killed_by)
        return harness

    return register


class Right(UrlHarness):
    """Everything as it should be."""

    name, location = "toolkit", "memory://"
    capabilities = Capabilities.only(
        "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
    )

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    def make_checkpoints(self, _: EventStore) -> Any:
        return MemoryCheckpoints()

    @asynccontextmanager
    async def checkpoints(self, store: EventStore) -> AsyncGenerator[Any, None]:
        yield self.make_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:  # a hook
        return MemorySnapshotStore()


class InStreams(Right):
    """Checkpoints in streams of the store."""

    def make_checkpoints(self, store: EventStore) -> Any:
        return StreamCheckpoints(store)


class _Leases:
    """A lease that passes all on."""

    def __init__(self, lease: Any) -> None:
        self._lease = lease

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)


class _Wrapped(MemoryCheckpoints):
    """Its leases are wrapped."""

    wrapper: type[_Leases] = _Leases

    async def acquire(self, *args: Any) -> Any:
        lease = await super().acquire(*args)
        return lease and self.wrapper(lease)


def _wrapping(wrapper_: type[_Leases]) -> type[MemoryCheckpoints]:
    class Wrapped(_Wrapped):
        wrapper = wrapper_

    return Wrapped


def _bug(made: type[MemoryCheckpoints], sentence: str | None) -> type[Harness]:
    class Wrong(Right):
        def make_checkpoints(self, _: EventStore) -> Any:
            return made()

    Wrong.__name__, Wrong.__doc__ = made.__name__, sentence
    Wrong.name = made.__name__
    return Wrong


def _lease_bug(*killed_by: str) -> Callable[[type[_Leases]], type[_Leases]]:
    def register(wrapper: type[_Leases]) -> type[_Leases]:
        mutant(*killed_by)(_bug(_wrapping(wrapper), wrapper.__doc__))
        return wrapper

    return register


def _store_bug(*killed_by: str) -> Callable[[type[MemoryCheckpoints]], type[MemoryCheckpoints]]:
    def register(made: type[MemoryCheckpoints]) -> type[MemoryCheckpoints]:
        mutant(*killed_by)(_bug(made, made.__doc__))
        return made

    return register


@_lease_bug("CKP-01")
class GoesBack(_Leases):
    """A renewal sets the checkpoint, wherever it was."""

    async def renew(self, position: int) -> None:
        await self._lease.renew(position)
        self._lease._state.position = position


@_store_bug("CKP-02")
class EverybodyHasTheLease(MemoryCheckpoints):
    """It gives the lease to all that ask."""

    async def acquire(self, projection: ProjectionId, *args: Any, **asked: Any) -> Any:
        self._states[projection].owner = None
        return await super().acquire(projection, *args, **asked)


@_store_bug("CKP-08")
class LooksAndThenTakes(MemoryCheckpoints):
    """It checks whether a lease is free, lets others check, too, and then gives it."""

    async def acquire(self, projection: ProjectionId, *args: Any, **asked: Any) -> Any:
        is_free = self._states[projection].owner is None
        await checkpoint()
        if is_free:
            self._states[projection].owner = None
        return await super().acquire(projection, *args, **asked)


@_lease_bug("CKP-02")
class AnybodyReleases(_Leases):
    """A release frees the lease of another runner."""

    async def release(self) -> None:
        self._lease._state.owner = None


@_lease_bug("CKP-03")
class NoFence(_Leases):
    """A lease that was lost still writes."""

    async def renew(self, position: int) -> None:
        self._lease._fence = self._lease._state.fence
        await self._lease.renew(position)


@_store_bug("CKP-03")
class ResetWithoutFence(MemoryCheckpoints):
    """A reset leaves the lease good."""

    async def reset(self, projection: ProjectionId, position: int) -> None:
        self._states[projection].position = position


@_lease_bug("CKP-04")
class MovesFirst(_Leases):
    """It moves the checkpoint before the block."""

    @asynccontextmanager
    async def advance(self, position: int, **asked: Any) -> AsyncGenerator[None, None]:
        async with self._lease.advance(position, **asked):
            pass
        yield


@_lease_bug("CKP-10")
class NestsInWhatWasCancelled(_Leases):
    """What follows a block that was cancelled is undone with it, though it returns."""

    _open = False

    @asynccontextmanager
    async def advance(self, position: int, **asked: Any) -> AsyncGenerator[None, None]:
        if self._open:
            yield
            return
        self._open = True
        async with self._lease.advance(position, **asked):
            yield
            await checkpoint()
        self._open = False


@_lease_bug("CKP-05")
class ForgetsTheEvent(_Leases):
    """A block without a last event forgets the one that was kept."""

    @asynccontextmanager
    async def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AsyncGenerator[None, None]:
        async with self._lease.advance(position, last_event=last_event, dead_letter=dead_letter):
            yield
        self._lease._state.last_event = last_event


@_store_bug("CKP-05")
class TakesTheNewestStore(MemoryCheckpoints):
    """It keeps the id of the store that asked last."""

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> Any:
        lease = await super().acquire(projection, owner, seconds, store_id)
        self._states[projection].store_id = store_id
        return lease

    async def load(self, projection: ProjectionId) -> Checkpoint:
        return self._states[projection].checkpoint


@_store_bug("CKP-06")
class ResolvesWhateverHappens(MemoryCheckpoints):
    """It removes a dead letter although the block raised."""

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[None, None]:
        async with super().resolve(projection, position):
            pass
        yield


@_store_bug("CKP-07")
class LastActivationCounts(MemoryCheckpoints):
    """The generation that was activated last is active, even if it is a lower one."""

    async def activate(self, projection: ProjectionId) -> None:
        self._active[projection.name] = projection.generation


@_store_bug("CKP-09")
class DividesAgain(MemoryCheckpoints):
    """It keeps the number of parts that was asked for last."""

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        self._states[projection].partitions = partitions
        return partitions


@_store_bug("CKP-09")
class DividesWhatHasRun(MemoryCheckpoints):
    """It divides a generation whose checkpoint has moved."""

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        state = self._states[projection]
        state.partitions = state.partitions or partitions
        return state.partitions


@_store_bug("CKP-09")
class ResetsTheWhole(MemoryCheckpoints):
    """It resets a checkpoint that nothing reads, since the parts have theirs."""

    async def reset(self, projection: ProjectionId, position: int) -> None:
        state = self._states[projection]
        state.position, state.owner, state.fence = position, None, state.fence + 1
        state.last_event = state.store_id = None


class _Snapshots(Right):
    made: type[MemorySnapshotStore]

    def snapshots(self, _: EventStore) -> SnapshotStore:
        return self.made()


@mutant("SNP-01")
class KeepsTheOldest(_Snapshots):
    """It keeps the first snapshot of a stream."""

    class made(MemorySnapshotStore):  # noqa: N801  # as the attribute is called
        async def save(self, snapshot: Snapshot) -> None:
            if await self.latest(snapshot.stream) is None:
                await super().save(snapshot)


@mutant("SNP-02")
class CutsNames(_Snapshots):
    """It keeps snapshots by the beginning of a stream's name."""

    class made(MemorySnapshotStore):  # noqa: N801  # as above
        async def save(self, snapshot: Snapshot) -> None:
            await super().save(replace(snapshot, stream=snapshot.stream[:499]))

        async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
            return await super().latest(stream[:499], to_version=to_version)


@mutant("SNP-03")
class IgnoresTheVersion(_Snapshots):
    """It returns the newest snapshot, whatever version is asked for."""

    class made(MemorySnapshotStore):  # noqa: N801  # as above
        async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
            return await super().latest(stream)


@mutant("SUB-29")
class OneEventForAll(Right):
    """Its feed hands the same event to all subscriptions that are idle."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        with patch("eventport._engine.subscription.copy_event", lambda event: event):
            async with super().open() as store:
                yield store


class _HandsOutToAll(Feed):
    """It gives the page of a read to subscriptions that were not idle yet when the read began."""

    async def _read_for_all(self) -> bool:
        asked = list(self._idle)
        query = _common([follower.query for follower in self._idle.values()])
        seen = self.signal.count
        page = await self.read(query)
        for woken, follower in tuple(self._idle.items()):
            if woken not in asked and follower.query.after >= query.after:
                if follower.take(page, seen, shared=True):
                    self._wake(woken)
                asked.append(woken)
        return await super()._read_for_all()


@mutant("SUB-30")
class LateComersTakeAPage(Right):
    """Its feed gives a page to subscriptions that it was not read for."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        with patch("eventport._engine.store.Feed", _HandsOutToAll):
            async with super().open() as store:
                yield store
