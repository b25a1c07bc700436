"""Checkpoints in memory: for read models that live in memory, too, and for tests."""

from __future__ import annotations

import time

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from eventport.errors import LeaseLostError, NoDeadLetterError
from eventport.projections.checkpoints import Checkpoint, DeadLetter, ProjectionId


class MemoryCheckpoints:
    """A `CheckpointStore` that lives as long as the object; what it gives as connection is None."""

    def __init__(self) -> None:
        self._states: defaultdict[ProjectionId, _State] = defaultdict(_State)
        self._active: dict[str, int] = {}

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float
    ) -> MemoryLease | None:
        """See `CheckpointStore.acquire`."""
        state = self._states[projection]
        now = time.monotonic()
        if state.owner not in {None, owner} and now < state.expires_at:
            return None
        state.owner, state.fence = owner, state.fence + 1
        state.expires_at = now + seconds
        return MemoryLease(projection, state, seconds)

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        state = self._states[projection]
        held = time.monotonic() < state.expires_at
        return Checkpoint(state.position, state.owner if held else None)

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
        yield
        letters.pop(position, None)


class MemoryLease:
    """A `Lease` on a projection of `MemoryCheckpoints`."""

    def __init__(self, projection: ProjectionId, state: _State, seconds: float) -> None:
        self._projection = projection
        self._state = state
        self._fence = state.fence
        self._seconds = seconds
        self.position = state.position
        """See `Lease.position`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        self._check()
        self._state.expires_at = time.monotonic() + self._seconds
        self._state.position = max(position, self._state.position)

    @asynccontextmanager
    async def advance(
        self, position: int, *, dead_letter: DeadLetter | None = None
    ) -> AsyncGenerator[None]:
        """See `Lease.advance`."""
        self._check()
        yield
        await self.renew(position)
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
        self.fence = 0
        self.expires_at = 0.0
        self.letters: dict[int, DeadLetter] = {}
