"""The engine in memory. It needs no lock: nothing awaits between a check and its write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Final

from anyio.lowlevel import checkpoint

from eventport import Capability, RecordedEvent, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    InlineHandlers,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    Seen,
    StreamPage,
    StreamQuery,
)
from eventport.read_models import MemoryDocuments

from eventport_memory.handled import HandledCommits
from eventport_memory.log import Log


_PAGE: Final = 1_000
"""How many events that match a query one page has, so that many do not block the loop."""

_SCAN: Final = 10_000
"""How many events one page scans, so that a filter with few hits does not block the loop."""


class MemoryEngine:
    """Keeps events in a list, and in a list for each stream."""

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.GUARDS,
            Capability.CONDITIONS,
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
        self._log = Log(clock)
        self.documents: Final = MemoryDocuments()
        """The documents of read models."""
        self.inline: Final = InlineHandlers[None]()
        """What runs with each commit."""
        self._handled = HandledCommits(self._log, self.documents, self.inline)

    @property
    def name(self) -> str:
        """How much is in it."""
        return f"{len(self._log.events)} events in {len(self._log.streams)} streams"

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        if self.inline:
            return [await self._handled.apply(commit) for commit in batch]
        outcomes: list[Outcome] = []
        for commit in batch:
            outcome, stored = self._log.prepare(commit)
            self._log.add(stored)
            outcomes.append(outcome)
        return outcomes

    def check_caller(self) -> None:
        """See `ChecksCaller.check_caller`: a handler must not wait for its own commit."""
        self._handled.check_caller()

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        await checkpoint()
        found = self._log.streams.get(query.stream, [])
        wanted = query.clip(len(found))
        return StreamPage([found[version - 1].decode() for version in wanted], len(found))

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: what is appended is committed, so the prefix is stable."""
        await checkpoint()
        events: list[RecordedEvent] = []
        position = query.after
        is_filtered = query.is_filtered
        width = _SCAN if is_filtered else query.max_count
        for stored in self._log.events[position : position + width]:
            if len(events) == query.max_count:
                break
            position = stored.position
            if not is_filtered or query.matches(
                stored.stream, stored.event.type, stored.event.tags
            ):
                events.append(stored.decode())
        return AllPage(events, position, len(self._log.events))

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`: what is appended is committed, so all of it was seen."""
        await checkpoint()
        events: list[RecordedEvent] = []
        head = len(self._log.events)
        until = head if query.until is None else min(query.until, head)
        found = self._log.matching(query.query, query.after, until, backwards=query.backwards)
        for stored in islice(found, query.max_count):
            events.append(stored.decode())
            if len(events) == _PAGE:
                return MatchPage(events, head, Seen(head), more=query.max_count != _PAGE)
        return MatchPage(events, head, Seen(head))

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`: the names are sorted when there are new ones."""
        await checkpoint()
        last = self._log.last_of(query)
        return [StreamInfo(one.stream, one.version, one.position, one.recorded_at) for one in last]

    async def fenced(self) -> str | None:
        """See `Fences.fenced`."""
        await checkpoint()
        return self._log.fence

    async def set_fence(self, before: str | None, after: str | None, /) -> bool:
        """See `Fences.set_fence`; a commit whose handlers run is waited for."""
        async with self._handled.turn:
            if self._log.fence != before:
                return False
            self._log.fence = after
            return True

    async def close(self) -> None:
        """Do nothing: the events live as long as the object."""
