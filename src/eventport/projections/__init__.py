"""Projections: read models that follow the store, exactly where they stopped."""

from __future__ import annotations

from eventport.projections.checkpoints import (
    Checkpoint,
    CheckpointStore,
    DeadLetter,
    LastEvent,
    Lease,
    ProjectionId,
    wait_until,
)
from eventport.projections.dead_letters import discard, retry
from eventport.projections.memory import MemoryCheckpoints
from eventport.projections.opening import open_checkpoints
from eventport.projections.progress import Progress, State, find_head
from eventport.projections.projection import Projection, Target
from eventport.projections.retrying import Retries
from eventport.projections.runner import Runner
from eventport.projections.streams import StreamCheckpoints
from eventport.projections.supervising import supervise


__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "DeadLetter",
    "LastEvent",
    "Lease",
    "MemoryCheckpoints",
    "Progress",
    "Projection",
    "ProjectionId",
    "Retries",
    "Runner",
    "State",
    "StreamCheckpoints",
    "Target",
    "discard",
    "find_head",
    "open_checkpoints",
    "retry",
    "supervise",
    "wait_until",
]
