"""Checkpoints and leases of projections: what every kind of checkpoint store has to do."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime  # msgspec resolves field types at run time
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable
from uuid import UUID  # as above

from anyio import sleep
from msgspec import Struct

from eventport.errors import InvalidArgumentError
from eventport.transactions import DocumentWriter


C_co = TypeVar("C_co", covariant=True)


class ProjectionId(NamedTuple):
    """One generation of a projection: each has a checkpoint and a runner of its own."""

    name: str
    generation: int

    def __str__(self) -> str:
        """Show it as in ``cases@2``."""
        return f"{self.name}@{self.generation}"


class LastEvent(Struct, frozen=True):
    """The last event that a projection has handled."""

    position: int
    """Its global position."""
    stream: str
    """Its stream."""
    version: int
    """Its version in the stream."""
    id: UUID
    """Its id."""


class Checkpoint(Struct, frozen=True):
    """The progress of a generation of a projection."""

    position: int = 0
    """Everything up to this global position has been handled."""
    owner: str | None = None
    """The runner that has the lease, alive or not; None if the lease is free."""
    last_event: LastEvent | None = None
    """The last event that was handled; a runner that resumes verifies that it is there."""
    store_id: str | None = None
    """The `store_id` of the event store that the position belongs to, if that store has one."""
    partitions: int = 0
    """Into how many parts it is divided, which have the checkpoints then; 0 if it is not."""


class DeadLetter(Struct, frozen=True):
    """An event that a projection could not handle and has skipped."""

    position: int
    """The event's global position."""
    stream: str
    """The event's stream."""
    version: int
    """The event's version in its stream."""
    type: str
    """The event's type."""
    error: str
    """What the last attempt raised."""
    attempts: int
    """How often it was tried."""
    at: datetime
    """When it was given up."""


class Lease(Protocol[C_co]):
    """The right to run a projection, for a limited time.

    A new lease fences off the previous holder: its writes are rejected.
    """

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the projection stood when the lease was acquired."""
        ...

    async def renew(self, position: int) -> None:
        """Hold the lease for its whole time from now, and move the checkpoint on, never back.

        Raises:
            LeaseLostError: another runner has taken over.
        """
        ...

    def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AbstractAsyncContextManager[C_co]:
        """Handle events in the block, and move the checkpoint to the last one at its end.

        Without `last_event`, that of the checkpoint stays as it is.

        The block gets the connection to write the read model with: a store that keeps both
        commits them, and the dead letter if there is one, in one transaction. It renews the
        lease, too. If the block raises, nothing of this has happened.

        Raises:
            AlreadyHandledError: the checkpoint is at or beyond `last_event`, and the block has
                not run. A try whose end was not known (see below) took effect.
            LeaseLostError: another runner has taken over; the block may not have run.
            StoreUnavailableError: it is not known whether the end of the block took effect.
        """
        ...

    async def release(self) -> None:
        """Let the next runner begin at once; if the lease was lost, this has no effect."""
        ...


class CheckpointStore(Protocol[C_co]):
    """Keeps checkpoints, leases, dead letters, and which generation is the active one."""

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> Lease[C_co] | None:
        """Get the right to run a projection, or None if another runner has it.

        A lease has run out when the one that asks has seen it unchanged, by its own monotonic
        clock, for as long as the lease lasts. No clocks of different hosts are compared, so the
        one that asks must poll with the same object.

        Args:
            projection: Which one.
            owner: The runner that asks, by a name of its own. Asking for its own lease gives it
                a new one.
            seconds: How long the lease lasts if it is not renewed.
            store_id: The `store_id` of the event store. It is kept with a checkpoint that has
                none; the lease's `checkpoint` has the one that is kept.
        """
        ...

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """Return the progress of a projection; position 0 if it has never run."""
        ...

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """Set a checkpoint to a position, forwards or back, and forget what it belonged to.

        A runner that has the lease is fenced off. Do this only if the read model is right up to
        this position of the store.

        Raises:
            InvalidArgumentError: it is divided; reset its parts (see `refuse_divided`).
        """
        ...

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        """Keep into how many parts a generation is divided, and return what is kept.

        The first call decides, and no later one changes it. If the generation was run or reset
        before that, then it is not divided, and this returns 0.
        """
        ...

    async def active(self, name: str) -> int:
        """Return the generation that readers should use; 0 if there is none yet."""
        ...

    async def activate(self, projection: ProjectionId) -> None:
        """Let readers use this generation from now on, unless a higher one is active already."""
        ...

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """List the events that were given up, in the order of the store."""
        ...

    def resolve(self, projection: ProjectionId, position: int) -> AbstractAsyncContextManager[C_co]:
        """Remove a dead letter at the end of the block, in one transaction with it.

        Raises:
            NoDeadLetterError: there is none for this position.
        """
        ...


@runtime_checkable
class KeepsDocuments(Protocol):
    """A checkpoint store whose transactions hold the documents of read models, too."""

    def documents(self, connection: Any, /) -> DocumentWriter:
        """Return the documents in the transaction that is open on a connection."""
        ...


async def wait_until(
    checkpoints: CheckpointStore[Any], name: str, position: int, *, poll_interval: float = 0.05
) -> None:
    """Wait until the active generation of a projection has handled everything up to a position.

    It polls the checkpoint, so the projection may run in any process. In the
    process that runs it, `Runner.wait_until` is quicker. Limit the time with
    ``anyio.fail_after``.

    Args:
        checkpoints: Where the projection's checkpoint is kept.
        name: The projection's name.
        position: A global position, such as `AppendResult.position`.
        poll_interval: How many seconds to wait between two polls.
    """
    while True:
        generation = await checkpoints.active(name)
        if generation:
            found = await load_parts(checkpoints, ProjectionId(name, generation))
            if all(part.position >= position for part in found.values()):
                return
        await sleep(poll_interval)


def part_ids(projection: ProjectionId, partitions: int) -> list[ProjectionId]:
    """Return the ids under which the parts of a projection have their checkpoints.

    Args:
        projection: The whole.
        partitions: How many parts there are; 0 or 1 for a projection that is not divided, which
            has its checkpoint under its own id.
    """
    if partitions <= 1:
        return [projection]
    return [
        projection._replace(name=f"{projection.name}/part-{number}-of-{partitions}")
        for number in range(partitions)
    ]


async def load_parts(
    checkpoints: CheckpointStore[Any], projection: ProjectionId
) -> dict[ProjectionId, Checkpoint]:
    """Return the checkpoints of a projection's parts: of itself, if it is not divided."""
    whole = await checkpoints.load(projection)
    if not whole.partitions:
        return {projection: whole}
    return {id_: await checkpoints.load(id_) for id_ in part_ids(projection, whole.partitions)}


def refuse_divided(projection: ProjectionId, checkpoint: Checkpoint) -> None:
    """Refuse to reset a projection whose parts have the checkpoints.

    Raises:
        InvalidArgumentError: it is divided.
    """
    if checkpoint.partitions:
        message = (
            f"{projection} is divided into {checkpoint.partitions} parts, which have the "
            "checkpoints: reset each of `Projection.parts`"
        )
        raise InvalidArgumentError(message)
