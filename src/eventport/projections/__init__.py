"""Projections: read models that follow the store, exactly where they stopped."""

from __future__ import annotations

from eventport.projections.checkpoint_places import open_checkpoints
from eventport.projections.checkpoints import (
    Checkpoint,
    CheckpointStore,
    DeadLetter,
    LastEvent,
    Lease,
    ProjectionId,
    wait_until,
)
from eventport.projections.dead_letters import discard, list_dead_letters, retry
from eventport.projections.memory_checkpoints import MemoryCheckpoints
from eventport.projections.partitioned import PartitionedRunner
from eventport.projections.progress import Progress, State, find_head
from eventport.projections.projection import Projection, ProjectionContext
from eventport.projections.refusals import (
    AlreadyHandledError,
    CheckpointMismatchError,
    LeaseLostError,
    NoDeadLetterError,
    PartitionsChangedError,
    ProjectionStoppedError,
)
from eventport.projections.retrying import Retries
from eventport.projections.runner import Runner
from eventport.projections.stream_checkpoints import StreamCheckpoints
from eventport.projections.supervising import supervise


__all__ = [
    "AlreadyHandledError",
    "Checkpoint",
    "CheckpointMismatchError",
    "CheckpointStore",
    "DeadLetter",
    "LastEvent",
    "Lease",
    "LeaseLostError",
    "MemoryCheckpoints",
    "NoDeadLetterError",
    "PartitionedRunner",
    "PartitionsChangedError",
    "Progress",
    "Projection",
    "ProjectionContext",
    "ProjectionId",
    "ProjectionStoppedError",
    "Retries",
    "Runner",
    "State",
    "StreamCheckpoints",
    "discard",
    "find_head",
    "list_dead_letters",
    "open_checkpoints",
    "retry",
    "supervise",
    "wait_until",
]
