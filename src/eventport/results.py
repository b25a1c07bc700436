"""What reads, appends and folds return."""

from __future__ import annotations

from datetime import datetime  # msgspec resolves field types at run time
from typing import Generic, TypeVar

from msgspec import Struct

from eventport.events import RecordedEvent, T_co  # as above


S = TypeVar("S")


class ReadResult(Struct, Generic[T_co], frozen=True):
    """Events of one stream, and where the stream stands."""

    events: list[RecordedEvent[T_co]]
    """The events in the range asked for, in the order asked for."""
    version: int
    """The stream's head, whatever the range; 0 if the stream does not exist."""

    @property
    def exists(self) -> bool:
        """Whether the stream has any event."""
        return self.version > 0


class AppendResult(Struct, frozen=True):
    """What an append did."""

    version: int
    """The stream's version after the append."""
    position: int | None
    """The global position of its last event; None if nothing was written, or not yet."""
    created: bool
    """Whether this append brought the stream into being."""
    deduplicated: bool
    """Whether exactly these events were there already, so that nothing was written again."""


class StreamInfo(Struct, frozen=True):
    """A stream, and its last event: what a list of streams says of each."""

    stream: str
    """Its name."""
    version: int
    """Its head; the number of its events, unless some of them were deleted."""
    position: int
    """The global position of its last event."""
    recorded_at: datetime
    """When its last event was first recorded."""


class QueryResult(Struct, frozen=True):
    """Events of the whole store that match a query, and what their reader has seen."""

    events: list[RecordedEvent]
    """The events found, in the order asked for."""
    position: int
    """Where to resume: pass it as `after`. It advances even if the query matched nothing."""
    token: str
    """What this read has seen: pass it as `since`. It is opaque, and no position.

    It stands for all matching events as of the read; if `max_count` has cut a read forwards, for
    those up to the last one given.
    """


class SaveResult(Struct, frozen=True):
    """What saving aggregates did."""

    version: int
    """The version of the last aggregate that was given, now that it is saved."""
    position: int | None
    """The global position of the last event that was written; None if nothing was."""


class AggregateResult(Struct, Generic[S], frozen=True):
    """A state folded from a stream."""

    state: S
    """The state after the last event folded."""
    version: int
    """The version that was folded to: the head, or `to_version` if that is lower."""
    exists: bool
    """Whether the stream has any event, even if only after `to_version`."""


class AllResult(Struct, Generic[T_co], frozen=True):
    """Events of the whole store, in global order."""

    events: list[RecordedEvent[T_co]]
    """The events found, at most as many as asked for."""
    position: int
    """Where to resume: pass it as `after`. It advances even if the filter matched nothing."""
