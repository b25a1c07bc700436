"""Checking that a checkpoint belongs to the store, before a projection resumes."""

from __future__ import annotations

from eventport.projections.checkpoints import Checkpoint, LastEvent, ProjectionId
from eventport.projections.progress import find_head
from eventport.projections.refusals import CheckpointMismatchError, PartitionsChangedError
from eventport.protocols import EventStore


def id_of(store: EventStore) -> str | None:
    """Return what identifies a store over restarts and backups; None if it has no id."""
    id_ = getattr(store, "store_id", None)
    return None if id_ is None else str(id_)


async def verify(store: EventStore, projection: ProjectionId, checkpoint: Checkpoint) -> None:
    """Check that the events that a checkpoint stands for are those of the store.

    Raises:
        CheckpointMismatchError: they are not; see `find_mismatch`.
        PartitionsChangedError: the projection was begun in parts.
    """
    if checkpoint.partitions:
        raise PartitionsChangedError(projection, checkpoint.partitions, 1)
    if reason := await find_mismatch(store, checkpoint):
        raise CheckpointMismatchError(projection, reason)


async def find_mismatch(store: EventStore, checkpoint: Checkpoint) -> str | None:
    """Return why a checkpoint does not fit the events of a store; None if it does.

    It belongs to another store, is beyond the head, or another event stands where the last
    handled one did, as after a restore of a backup.
    """
    own, kept = id_of(store), checkpoint.store_id
    if own is not None and kept is not None and own != kept:
        return f"its checkpoint belongs to another store, {kept}, and this one is {own}"
    last = checkpoint.last_event
    if last is not None and not await _is_there(store, last):
        return (
            f"the last event that it handled, version {last.version} of stream {last.stream!r} at "
            f"position {last.position}, is not there, or is another one: the store's history was "
            "replaced, or this is another store"
        )
    known = 0 if last is None else last.position
    if checkpoint.position > known:
        head = await find_head(store)
        if head < checkpoint.position:
            return (
                f"its checkpoint is at position {checkpoint.position}, beyond the head of the "
                f"store, {head}: the store's history was replaced, or this is another store"
            )
    return None


async def _is_there(store: EventStore, last: LastEvent) -> bool:
    found = await store.read(last.stream, from_version=last.version, to_version=last.version)
    if not found.events:
        # A server may hide old events, of streams with a limit. A version that the stream has
        # not reached was never there.
        return found.version >= last.version
    return (found.events[0].position, found.events[0].id) == (last.position, last.id)
