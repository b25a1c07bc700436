"""What is kept in memory: all events in order, those of each stream, and where to find them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct

from eventport import Query, RecordedEvent
from eventport.adapter import (
    Commit,
    Committed,
    EncodedEvent,
    Failed,
    NameQuery,
    Outcome,
    Place,
    Seen,
    Written,
    decode_event,
    plan,
)
from eventport.errors import StoreFencedError

from eventport_memory.index import Index


class Stored(Struct, frozen=True, gc=False):
    """One event and its place."""

    stream: str
    version: int
    position: int
    event: EncodedEvent
    recorded_at: datetime

    def decode(self) -> RecordedEvent:
        """Return it as readers get it."""
        event = self.event
        return decode_event(
            stream=self.stream,
            version=self.version,
            position=self.position,
            type_=event.type,
            data=event.data,
            metadata=event.metadata,
            id_=event.id,
            recorded_at=self.recorded_at,
            tags=event.tags,
        )


class Log:
    """Events in a list, and in a list for each stream.

    Args:
        clock: Gives the time for new events.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.events: list[Stored] = []
        """All of them; an event's position is its index plus one."""
        self.streams: dict[str, list[Stored]] = {}
        """Those of each stream; an event's version is its index plus one."""
        self.fence: str | None = None
        """What the fence says; None if there is none."""
        self._clock = clock
        self._index = Index()
        self._names: list[str] = []
        """The names of the streams in order, as of the last time that they were listed."""

    def prepare(self, commit: Commit) -> tuple[Outcome, Sequence[Stored]]:
        """Return what comes of a commit, and what it adds."""
        planned = plan(commit, self._head, self._stored, self._unseen)
        if not isinstance(planned, list):
            return planned, ()
        if self.fence is not None:
            return Failed(StoreFencedError(self.fence)), ()
        now = self._time_for(commit)
        stored: list[Stored] = []
        written: list[Written] = []
        latest: dict[str, datetime] = {}
        for write, first in zip(commit.writes, planned, strict=True):
            # A copy, which this very commit may have brought, can be of the future.
            times = write.times(max(now, latest.get(write.stream, now)))
            latest[write.stream] = times[-1]
            start = len(self.events) + len(stored) + 1
            stored += [
                Stored(write.stream, first + index, start + index, event, time)
                for index, (event, time) in enumerate(zip(write.events, times, strict=True))
            ]
            count = len(write.events)
            positions = range(start, start + count)
            written.append(Written(first + count - 1, positions, first == 1, times))
        return Committed(written), stored

    def add(self, stored: Sequence[Stored]) -> None:
        """Add what `prepare` has returned; readers see it at once."""
        self.events += stored
        for one in stored:
            self.streams.setdefault(one.stream, []).append(one)
            self._index.add(one.position, one.event.type, one.event.tags)

    def last_of(self, query: NameQuery) -> list[Stored]:
        """Return the last event of each stream in a range of names, in the order of the names."""
        if len(self._names) != len(self.streams):
            self._names = sorted(self.streams)
        names = self._names
        start = bisect_left(names, query.first)
        end = len(names) if query.end is None else bisect_left(names, query.end)
        return [self.streams[name][-1] for name in names[start : min(end, start + query.max_count)]]

    def _time_for(self, commit: Commit) -> datetime:
        """Return the time, or that of a stream's last event if the clock was set back."""
        now = self._clock().astimezone(UTC)
        for write in commit.writes:
            if stored := self.streams.get(write.stream):
                now = max(now, stored[-1].recorded_at)
        return now

    def matching(
        self, query: Query, after: int, until: int, *, backwards: bool = False
    ) -> Iterator[Stored]:
        """Yield, in order, the events in a range of positions that match a query."""
        for position in self._index.candidates(query, after, until, backwards=backwards):
            stored = self.events[position - 1]
            if query.covers(stored.event.type, stored.event.tags):
                yield stored

    def _unseen(self, query: Query, seen: Seen) -> Place | None:
        for stored in self.matching(query, seen.floor, len(self.events)):
            if not seen.covers(stored.position):
                return stored.stream, stored.version, stored.event.id
        return None

    def _head(self, stream: str) -> int:
        return len(self.streams.get(stream, ()))

    def _stored(self, stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        found = self.streams.get(stream, [])[first - 1 : last]
        return [(stored.event.id, stored.position, stored.recorded_at) for stored in found]
