"""The engine in memory. It needs no lock: nothing awaits between a check and its write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Final
from uuid import UUID

from anyio.lowlevel import checkpoint
from msgspec import Struct

from eventport import Capability, Query, RecordedEvent
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    EncodedEvent,
    MatchPage,
    MatchQuery,
    Outcome,
    Place,
    Seen,
    StreamPage,
    StreamQuery,
    StreamWrite,
    Written,
    decode_event,
    plan,
)

from eventport_memory.index import Index


_PAGE: Final = 1_000
"""How many events that match a query one page has, so that many do not block the loop."""

_SCAN: Final = 10_000
"""How many events one page scans, so that a filter with few hits does not block the loop."""


class _Stored(Struct, frozen=True, gc=False):
    """One event and its place."""

    stream: str
    version: int
    position: int
    event: EncodedEvent
    recorded_at: datetime

    def decode(self) -> RecordedEvent:
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


class MemoryEngine:
    """Keeps events in a list, and in a list for each stream."""

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.GUARDS,
            Capability.TIMES,
        }
    )
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.SHARED: "the events live in one object; use SQLite to share them",
            Capability.PUSH: "there are no commits by other processes",
            Capability.DURABLE: "the events live in memory; use SQLite to keep them",
        }
    )

    def __init__(self) -> None:
        self._log: list[_Stored] = []
        self._streams: dict[str, list[_Stored]] = {}
        self._index = Index()

    @property
    def name(self) -> str:
        """How much is in it."""
        return f"{len(self._log)} events in {len(self._streams)} streams"

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        return [self._apply(commit) for commit in batch]

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        await checkpoint()
        found = self._streams.get(query.stream, [])
        wanted = query.clip(len(found))
        return StreamPage([found[version - 1].decode() for version in wanted], len(found))

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: what is appended is committed, so the prefix is stable."""
        await checkpoint()
        events: list[RecordedEvent] = []
        position = query.after
        for stored in self._log[position : position + _SCAN]:
            if len(events) == query.max_count:
                break
            position = stored.position
            if query.matches(stored.stream, stored.event.type, stored.event.tags):
                events.append(stored.decode())
        return AllPage(events, position, len(self._log))

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`: what is appended is committed, so all of it was seen."""
        await checkpoint()
        events: list[RecordedEvent] = []
        head = len(self._log)
        until = head if query.until is None else min(query.until, head)
        found = self._matching(query.query, query.after, until, backwards=query.backwards)
        for stored in islice(found, query.max_count):
            events.append(stored.decode())
            if len(events) == _PAGE:
                return MatchPage(events, head, Seen(head), more=query.max_count != _PAGE)
        return MatchPage(events, head, Seen(head))

    async def close(self) -> None:
        """Do nothing: the events live as long as the object."""

    def _apply(self, commit: Commit) -> Outcome:
        planned = plan(commit, self._head, self._stored, self._unseen)
        if not isinstance(planned, list):
            return planned
        now = self._time_for(commit)
        return Committed(
            [
                self._write(write, first, now)
                for write, first in zip(commit.writes, planned, strict=True)
            ]
        )

    def _write(self, write: StreamWrite, first: int, now: datetime) -> Written:
        stream = write.stream
        before = self._streams.setdefault(stream, [])
        if before:  # a copy, which this very commit may have brought, can be of the future
            now = max(now, before[-1].recorded_at)
        start = len(self._log) + 1
        times = write.times(now)
        stored = [
            _Stored(stream, first + index, start + index, event, time)
            for index, (event, time) in enumerate(zip(write.events, times, strict=True))
        ]
        self._log += stored
        before += stored
        for one in stored:
            self._index.add(one.position, one.event.type, one.event.tags)
        positions = range(start, len(self._log) + 1)
        return Written(first + len(stored) - 1, positions, first == 1, times)

    def _time_for(self, commit: Commit) -> datetime:
        """Return the time, or that of a stream's last event if the clock was set back."""
        now = datetime.now(UTC)
        for write in commit.writes:
            if stored := self._streams.get(write.stream):
                now = max(now, stored[-1].recorded_at)
        return now

    def _matching(
        self, query: Query, after: int, until: int, *, backwards: bool = False
    ) -> Iterator[_Stored]:
        for position in self._index.candidates(query, after, until, backwards=backwards):
            stored = self._log[position - 1]
            if query.covers(stored.event.type, stored.event.tags):
                yield stored

    def _unseen(self, query: Query, seen: Seen) -> Place | None:
        for stored in self._matching(query, seen.floor, len(self._log)):
            if not seen.covers(stored.position):
                return stored.stream, stored.version, stored.event.id
        return None

    def _head(self, stream: str) -> int:
        return len(self._streams.get(stream, ()))

    def _stored(self, stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        found = self._streams.get(stream, [])[first - 1 : last]
        return [(stored.event.id, stored.position, stored.recorded_at) for stored in found]
