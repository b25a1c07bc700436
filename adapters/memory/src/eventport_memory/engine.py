"""The engine in memory. It needs no lock: nothing awaits between a check and its write."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Final
from uuid import UUID

from anyio import Lock
from anyio.lowlevel import checkpoint
from msgspec import Struct

from eventport import Capability, Query, RecordedEvent, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    EncodedEvent,
    Failed,
    InlineHandlers,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    Place,
    Seen,
    StreamPage,
    StreamQuery,
    Written,
    call_inline,
    decode_event,
    new_events,
    plan,
)
from eventport.errors import InlineProjectionError, NotSupportedError
from eventport.read_models import MemoryDocuments
from eventport.transactions import Transaction

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
            Capability.CATALOGUE,
        }
    )
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.SHARED: "the events live in one object; use SQLite to share them",
            Capability.PUSH: "there are no commits by other processes",
            Capability.DURABLE: "the events live in memory; use SQLite to keep them",
        }
    )

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._log: list[_Stored] = []
        self._streams: dict[str, list[_Stored]] = {}
        self._index = Index()
        self._names: list[str] = []
        """The names of the streams in order, as of the last time that they were listed."""
        self.documents: Final = MemoryDocuments()
        """The documents of read models."""
        self.inline: Final = InlineHandlers[None]()
        """What runs with each commit."""
        self._turn = Lock()  # of commits that wait for handlers
        self._handling: object = None
        """Stands for the commit whose handlers are running."""

    @property
    def name(self) -> str:
        """How much is in it."""
        return f"{len(self._log)} events in {len(self._streams)} streams"

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        if self.inline:
            return [await self._apply_with_handlers(commit) for commit in batch]
        return [self._apply(commit) for commit in batch]

    def check_caller(self) -> None:
        """See `ChecksCaller.check_caller`: a handler must not wait for its own commit."""
        if self._handling is not None and self._handling is _handling.get():
            message = (
                "an inline handler cannot append to its own store in memory, for whose commit it "
                "would wait: append in a projection"
            )
            raise NotSupportedError(message)

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
        is_filtered = query.is_filtered
        for stored in self._log[position : position + (_SCAN if is_filtered else query.max_count)]:
            if len(events) == query.max_count:
                break
            position = stored.position
            if not is_filtered or query.matches(
                stored.stream, stored.event.type, stored.event.tags
            ):
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

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`: the names are sorted when there are new ones."""
        await checkpoint()
        if len(self._names) != len(self._streams):
            self._names = sorted(self._streams)
        names = self._names
        start = bisect_left(names, query.first)
        end = len(names) if query.end is None else bisect_left(names, query.end)
        last = [
            self._streams[name][-1] for name in names[start : min(end, start + query.max_count)]
        ]
        return [StreamInfo(one.stream, one.version, one.position, one.recorded_at) for one in last]

    async def close(self) -> None:
        """Do nothing: the events live as long as the object."""

    async def _apply_with_handlers(self, commit: Commit) -> Outcome:
        """Apply a commit once its handlers have succeeded; nothing is visible before that."""
        async with self._turn:
            outcome, stored = self._prepare(commit)
            self._handling = object()
            token = _handling.set(self._handling)
            try:
                with self.documents.transaction() as documents:
                    for events in new_events([commit], [outcome]):
                        for handler in self.inline:
                            await call_inline(handler, events, Transaction(None, documents))
                    self._add(stored)  # nothing is awaited between this and the end of the block
            except InlineProjectionError as exc:
                return Failed(exc)
            finally:
                self._handling = None
                _handling.reset(token)
            return outcome

    def _apply(self, commit: Commit) -> Outcome:
        outcome, stored = self._prepare(commit)
        self._add(stored)
        return outcome

    def _prepare(self, commit: Commit) -> tuple[Outcome, Sequence[_Stored]]:
        """Return what comes of a commit, and what it adds."""
        planned = plan(commit, self._head, self._stored, self._unseen)
        if not isinstance(planned, list):
            return planned, ()
        now = self._time_for(commit)
        stored: list[_Stored] = []
        written: list[Written] = []
        latest: dict[str, datetime] = {}
        for write, first in zip(commit.writes, planned, strict=True):
            # A copy, which this very commit may have brought, can be of the future.
            times = write.times(max(now, latest.get(write.stream, now)))
            latest[write.stream] = times[-1]
            start = len(self._log) + len(stored) + 1
            stored += [
                _Stored(write.stream, first + index, start + index, event, time)
                for index, (event, time) in enumerate(zip(write.events, times, strict=True))
            ]
            count = len(write.events)
            positions = range(start, start + count)
            written.append(Written(first + count - 1, positions, first == 1, times))
        return Committed(written), stored

    def _add(self, stored: Sequence[_Stored]) -> None:
        self._log += stored
        for one in stored:
            self._streams.setdefault(one.stream, []).append(one)
            self._index.add(one.position, one.event.type, one.event.tags)

    def _time_for(self, commit: Commit) -> datetime:
        """Return the time, or that of a stream's last event if the clock was set back."""
        now = self._clock().astimezone(UTC)
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


_handling: Final[ContextVar[object]] = ContextVar("eventport_memory_handling", default=None)
"""The commit whose inline handlers have called what runs here."""
