"""What passes between the toolkit and an adapter: commits in, outcomes and pages out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime  # msgspec resolves field types at run time
from typing import TypeAlias
from uuid import UUID

from msgspec import Struct

from eventport.events import RecordedEvent
from eventport.expectations import Expectation, exact_version, holds


class EncodedEvent(Struct, frozen=True, gc=False):
    """An event as adapters store it: checked, encoded, and isolated from the caller's objects."""

    type: str
    data: str | bytes
    """JSON as text, or the caller's bytes: the Python type tells them apart."""
    metadata: str
    """A JSON object as text."""
    id: UUID


class StreamWrite(Struct, frozen=True):
    """Events for one stream, and what is expected of it; there is always at least one event."""

    stream: str
    expected: Expectation
    events: Sequence[EncodedEvent]


class Commit(Struct, frozen=True):
    """Writes that take place all together or not at all, in this order.

    A stream may occur several times; each later write of it expects the version that the one
    before makes.
    """

    writes: Sequence[StreamWrite]


class Written(Struct, frozen=True):
    """What one write did."""

    version: int
    """The stream's version after it."""
    positions: Sequence[int]
    """The global positions of its events, in order.

    The last one will do if `BaseEventStore.has_hooks` is false: nobody will ask for the others.
    """
    created: bool
    """Whether it brought the stream into being."""
    times: Sequence[datetime | None] = ()
    """The time on each of its events, where they differ; None for one that cannot be read any more.

    Hooks are not given that one. Without times, all events have the commit's.
    """


class Committed(Struct, frozen=True):
    """A commit that is in the store."""

    writes: Sequence[Written]
    """One for each write of the commit."""
    recorded_at: datetime
    """The time on its events: aware, UTC, in microseconds. Only hooks are told of it."""
    deduplicated: bool = False
    """Whether it had been there before, as an earlier try of the same append."""


class Conflict(Struct, frozen=True):
    """A commit of which nothing was written, because an expectation did not hold."""

    stream: str
    expected: Expectation
    actual: int
    """The version that the stream really has."""


class Failed(Struct, frozen=True):
    """A commit that met an error of its own, while others of its batch may have been written.

    Nothing of it was written, unless the error is `StoreUnavailableError`: then that is unknown.
    """

    error: Exception


Outcome: TypeAlias = Committed | Conflict | Failed


class StreamPage(Struct, frozen=True):
    """Events of one stream, and its true head, both from one moment."""

    events: Sequence[RecordedEvent]
    version: int
    """The stream's head, whatever the range; 0 if the stream does not exist."""


class AllPage(Struct, frozen=True):
    """Events of all streams in global order, after the position asked for."""

    events: Sequence[RecordedEvent]
    position: int
    """How far the store was looked through, be it without finding anything that matched."""
    head: int
    """How far it could be looked through at this moment, without missing anything ever."""


StoredIds: TypeAlias = Sequence[tuple[UUID, int, datetime]]


def plan(
    commit: Commit,
    head: Callable[[str], int],
    stored: Callable[[str, int, int], StoredIds],
) -> list[int] | Committed | Conflict:
    """Decide what becomes of a commit, for stores that decide in Python under a lock.

    Args:
        commit: What is to be written.
        head: Gives a stream's version.
        stored: Gives (id, position, recorded_at) of a stream's events, from a version to a
            version, both inclusive.

    Returns:
        The version of the first event of each write, if the commit shall be written; `Committed`
        if these very events are there already; otherwise the `Conflict`.
    """
    heads: dict[str, int] = {}
    firsts: list[int] = []
    for write in commit.writes:
        actual = heads.get(write.stream)
        if actual is None:
            actual = head(write.stream)
        if not holds(write.expected, actual):
            return _earlier_try(commit, stored) or Conflict(write.stream, write.expected, actual)
        firsts.append(actual + 1)
        heads[write.stream] = actual + len(write.events)
    return firsts


def _earlier_try(commit: Commit, stored: Callable[[str, int, int], StoredIds]) -> Committed | None:
    """Find a commit in the store that some earlier try has written, by the ids of its events."""
    written: list[Written] = []
    recorded_at: datetime | None = None
    for write in commit.writes:
        before = exact_version(write.expected)
        if before is None:
            return None
        last = before + len(write.events)
        found = stored(write.stream, before + 1, last)
        if [id_ for id_, _, _ in found] != [event.id for event in write.events]:
            return None
        recorded_at = found[-1][2]
        written.append(Written(last, [position for _, position, _ in found], before == 0))
    if recorded_at is None:
        return None
    return Committed(written, recorded_at, deduplicated=True)
