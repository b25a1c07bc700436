"""Checkpoints in memory: for read models that live in memory, too, and for tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from eventport.projections.checkpoints import (
    Checkpoint,
    DeadLetter,
    LastEvent,
    ProjectionId,
    refuse_divided,
)
from eventport.projections.refusals import LeaseLostError, NoDeadLetterError
from eventport.projections.standing_by import StandBy
from eventport.read_models import MemoryDocuments
from eventport.transactions import DocumentWriter, RefusedDocuments


NO_TRANSACTION: Final = RefusedDocuments("no transaction is open here: use it within a handler")


class MemoryCheckpoints:
    """A `CheckpointStore` that lives as long as the object; its connection is None.

    Args:
        documents: The documents of read models that change together with the checkpoints; if
            None, there is no other way to read them than by its handlers.
    """

    def __init__(self, documents: MemoryDocuments | None = None) -> None:
        self._documents = MemoryDocuments() if documents is None else documents
        self._states: defaultdict[ProjectionId, _State] = defaultdict(_State)
        self._active: dict[str, int] = {}
        self._stand_by = StandBy()

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> MemoryLease | None:
        """See `CheckpointStore.acquire`."""
        state = self._states[projection]
        if state.owner not in {None, owner} and not self._stand_by.has_run_out(
            projection, (state.fence, state.renewals), state.seconds
        ):
            return None
        state.owner, state.fence, state.seconds = owner, state.fence + 1, seconds
        state.store_id = state.store_id or store_id
        return MemoryLease(projection, state, self._documents)

    def documents(self, _: None, /) -> DocumentWriter:
        """See `KeepsDocuments.documents`."""
        return self._documents.current or NO_TRANSACTION

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        return self._states[projection].checkpoint

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """See `CheckpointStore.reset`."""
        state = self._states[projection]
        refuse_divided(projection, state.checkpoint)
        state.position, state.owner, state.fence = position, None, state.fence + 1
        state.last_event = state.store_id = None

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        """See `CheckpointStore.divide`."""
        state = self._states[projection]
        if not state.fence:  # neither run nor reset
            state.partitions = state.partitions or partitions
        return state.partitions

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        return self._active.get(name, 0)

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        self._active[projection.name] = max(
            projection.generation, self._active.get(projection.name, 0)
        )

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        return sorted(self._states[projection].letters.values(), key=lambda letter: letter.position)

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[None]:
        """See `CheckpointStore.resolve`."""
        letters = self._states[projection].letters
        if position not in letters:
            raise NoDeadLetterError(projection, position)
        with self._documents.transaction():
            yield
            letters.pop(position, None)


class MemoryLease:
    """A `Lease` on a projection of `MemoryCheckpoints`."""

    def __init__(self, projection: ProjectionId, state: _State, documents: MemoryDocuments) -> None:
        self._projection = projection
        self._documents = documents
        self._state = state
        self._fence = state.fence
        self.checkpoint = state.checkpoint
        """See `Lease.checkpoint`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        self._check()
        self._state.renewals += 1
        self._state.position = max(position, self._state.position)

    @asynccontextmanager
    async def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AsyncGenerator[None]:
        """See `Lease.advance`."""
        self._check()
        with self._documents.transaction():
            yield
            await self.renew(position)  # nothing is awaited between this and the end
            self._state.last_event = last_event or self._state.last_event
            if dead_letter is not None:
                self._state.letters[dead_letter.position] = dead_letter

    async def release(self) -> None:
        """See `Lease.release`."""
        if self._state.fence == self._fence:
            self._state.owner = None

    def _check(self) -> None:
        if self._state.fence != self._fence:
            raise LeaseLostError(self._projection)


class _State:
    """What is known of one generation of a projection."""

    def __init__(self) -> None:
        self.position = 0
        self.owner: str | None = None
        self.last_event: LastEvent | None = None
        self.store_id: str | None = None
        self.fence = 0
        self.renewals = 0
        self.seconds = 0.0
        self.partitions = 0
        self.letters: dict[int, DeadLetter] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.position, self.owner, self.last_event, self.store_id, self.partitions
        )
