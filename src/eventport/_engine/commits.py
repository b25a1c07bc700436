"""Commits as values: what an engine has to write, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime  # msgspec resolves field types at run time
from typing import TypeAlias
from uuid import UUID

from msgspec import Struct

from eventport.boundaries import Query
from eventport.errors import ConcurrencyError, StoreUnavailableError
from eventport.events import NO_TAGS
from eventport.expectations import Expectation


class EncodedEvent(Struct, frozen=True, gc=False):
    """An event as engines store it: checked, encoded, and isolated from the caller's objects."""

    type: str
    data: str | bytes
    """JSON as text, or the caller's bytes: the Python type tells them apart."""
    metadata: str
    """A JSON object as text."""
    id: UUID
    size: int
    """The size of data and metadata in UTF-8, in bytes."""
    tags: frozenset[str] = NO_TAGS
    """What it is about; engines store them with the event."""
    recorded_at: datetime | None = None
    """The time of a copy: aware, UTC. None for an event that gets the time of its commit.

    Engines without `Capability.TIMES` never get any.
    """


class StreamWrite(Struct, frozen=True):
    """Events for one stream, and what is expected of it; there is always at least one event."""

    stream: str
    expected: Expectation
    events: Sequence[EncodedEvent]

    def times(self, now: datetime) -> list[datetime]:
        """Return the time of each event: a copy keeps its own, the others get `now`.

        After a copy whose time is later than `now`, others get that time, so that none that the
        store stamps is before the one before it.
        """
        times: list[datetime] = []
        for event in self.events:
            now = now if event.recorded_at is None else max(now, event.recorded_at)
            times.append(event.recorded_at or now)
        return times


class StreamGuard(Struct, frozen=True):
    """What is expected of a stream that the commit does not write to."""

    stream: str
    expected: Expectation


class Seen(Struct, frozen=True, array_like=True):
    """Which matching events the reader of a query has seen; a token holds it.

    On an engine whose order is exact, the floor says it all. Where positions become visible out
    of order, the floor is the stable frontier of the read, and those seen above it are listed.
    """

    floor: int = 0
    """All matching events up to this position were seen."""
    positions: frozenset[int] = frozenset()
    """The positions of those above it that were seen."""

    def covers(self, position: int) -> bool:
        """Return whether a matching event at this position was seen."""
        return position <= self.floor or position in self.positions


class QueryGuard(Struct, frozen=True):
    """No event may match a query but those that were seen."""

    query: Query
    seen: Seen


Guard: TypeAlias = StreamGuard | QueryGuard
"""A condition of a commit beyond the expectations of its writes."""


class Commit(Struct, frozen=True):
    """Writes that are carried out together or not at all, in this order.

    A stream may occur several times; each later write of it expects the version that the one
    before makes.
    """

    writes: Sequence[StreamWrite]
    guards: Sequence[Guard] = ()
    """Conditions that must hold in the same atomic step; none unless the engine can check them."""
    detailed: bool = False
    """True if hooks wait for the position and time of each event.

    Otherwise the last position of each write is enough.
    """


class Written(Struct, frozen=True):
    """What one write did."""

    version: int
    """The stream's version after it."""
    positions: Sequence[int | None]
    """The global positions of its events, in order; the last one is always there.

    For a detailed commit there is one for each event, and None stands for one that is not known.
    Otherwise the last one is enough.
    """
    created: bool
    """Whether it brought the stream into being."""
    times: Sequence[datetime | None] = ()
    """For a detailed commit: when each event was recorded, aware, UTC, in microseconds.

    None stands for an event that cannot be read any more, because the stream was truncated at
    once. Hooks do not get it.
    """


class Committed(Struct, frozen=True):
    """A commit that is in the store, as durable as the backend's settings promise."""

    writes: Sequence[Written]
    """One for each write of the commit."""
    deduplicated: bool = False
    """Whether an earlier try of the same append had written it."""


class Conflict(Struct, frozen=True):
    """A commit of which nothing was written, because an expectation did not hold."""

    stream: str
    expected: Expectation
    actual: int
    """The version that the stream really has; a read that starts now can show it."""


class QueryConflict(Struct, frozen=True):
    """A commit of which nothing was written: an event matches a guard's query, and was not seen.

    The event is named by its place; the store reads it for the error.
    """

    query: Query
    stream: str
    version: int


class Failed(Struct, frozen=True):
    """A commit that met an error of its own, while others of its batch may have been written.

    Nothing of it was written, unless the error is `AnswerLostError`: then that is unknown.
    """

    error: Exception


class Blocked(Struct, frozen=True):
    """Something that this commit needs is locked by somebody's open transaction.

    Nothing of it was written. Only engines with the part `Unblocks` return it: the store writes
    the commit again when what it waits for is free.
    """

    on: frozenset[str] = frozenset()
    """What it waits for: streams, or names that the engine gives to other locks.

    Empty for the streams of the commit.
    """


Outcome: TypeAlias = Committed | Conflict | QueryConflict | Failed | Blocked


def require_committed(outcome: Committed | Conflict | Failed | Blocked) -> Committed:
    """Return what was committed, or raise what became of the commit instead."""
    if isinstance(outcome, Conflict):
        raise ConcurrencyError(outcome.stream, outcome.expected, outcome.actual)
    if isinstance(outcome, Failed):
        raise outcome.error
    if isinstance(outcome, Blocked):
        raise StoreUnavailableError("a stream is locked by another transaction")
    return outcome
