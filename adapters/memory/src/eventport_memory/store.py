"""The store in memory. It knows no lock, because nothing here is interrupted half-way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, Self
from uuid import UUID

from anyio.lowlevel import checkpoint

from eventport.adapter import (
    AllPage,
    BaseEventStore,
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Outcome,
    StreamPage,
    Written,
    decode_event,
    plan,
)
from eventport.configuration import redact
from eventport.errors import ConfigurationError
from eventport.events import RecordedEvent
from eventport.protocols import Capability


_SCAN: Final = 10_000
"""How many events one page looks at, so that a rare filter does not hold up the event loop."""


class _Stored:
    """One event, and where it stands."""

    __slots__ = ("event", "position", "recorded_at", "stream", "version")

    def __init__(
        self, stream: str, version: int, position: int, event: EncodedEvent, recorded_at: datetime
    ) -> None:
        self.stream = stream
        self.version = version
        self.position = position
        self.event = event
        self.recorded_at = recorded_at

    def decode(self) -> RecordedEvent:
        event = self.event
        return decode_event(
            self.stream,
            self.version,
            self.position,
            event.type,
            event.data,
            event.metadata,
            event.id,
            self.recorded_at,
        )


class MemoryEventStore(BaseEventStore):
    """An event store that lives as long as the object. It runs under asyncio and trio.

    It belongs to one event loop; it must not be shared between threads.
    """

    capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
    limitations: ClassVar[dict[Capability, str]] = {
        Capability.SHARED: "the events live in one object; use SQLite to share them",
        Capability.PUSH: "there are no commits by other processes",
        Capability.DURABLE: "the events live in memory; use SQLite to keep them",
    }
    poll_interval: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self._log: list[_Stored] = []
        self._streams: dict[str, list[_Stored]] = {}

    @classmethod
    async def connect(cls, url: str = "memory://") -> Self:
        """Open a new, empty store; ``memory://`` is all that its URL can say."""
        if url.rstrip("/") != "memory:":
            message = f"{redact(url)!r} says too much: memory stores have no name, write memory://"
            raise ConfigurationError(message)
        return cls()

    def __repr__(self) -> str:
        """Show how much is in it."""
        return f"<MemoryEventStore: {len(self._log)} events in {len(self._streams)} streams>"

    async def _dispatch(self, commit: Commit) -> Outcome:
        # There is no wire to share, so there is nothing to gain from a group of commits. The
        # others get a turn first: after the commit nothing may come between it and its result.
        await checkpoint()
        return (await self._commit_batch([commit]))[0]

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return [self._apply(commit) for commit in commits]

    def _apply(self, commit: Commit) -> Outcome:
        planned = plan(commit, self._head, self._stored)
        if isinstance(planned, Committed | Conflict):
            return planned
        now = self._time_for(commit)
        written: list[Written] = []
        for write, first in zip(commit.writes, planned, strict=True):
            start = len(self._log) + 1
            stored = [
                _Stored(write.stream, first + index, start + index, event, now)
                for index, event in enumerate(write.events)
            ]
            self._log += stored
            self._streams.setdefault(write.stream, []).extend(stored)
            end = first + len(stored)
            written.append(Written(end - 1, range(start, len(self._log) + 1), first == 1))
        return Committed(written, now)

    def _time_for(self, commit: Commit) -> datetime:
        """Return the time, or that of the last event of a stream if a clock was set back."""
        now = datetime.now(UTC)
        for write in commit.writes:
            if stored := self._streams.get(write.stream):
                now = max(now, stored[-1].recorded_at)
        return now

    def _head(self, stream: str) -> int:
        return len(self._streams.get(stream, ()))

    def _stored(self, stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        found = self._streams.get(stream, [])[first - 1 : last]
        return [(stored.event.id, stored.position, stored.recorded_at) for stored in found]

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        await checkpoint()
        found = self._streams.get(stream, [])
        if max_count is not None:
            if backwards:
                first = max(first, min(last, len(found)) - max_count + 1)
            else:
                last = min(last, first + max_count - 1)
        events = [stored.decode() for stored in found[first - 1 : max(last, 0)]]
        return StreamPage(events[::-1] if backwards else events, len(found))

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        await checkpoint()
        events: list[RecordedEvent] = []
        position = after
        for stored in self._log[after : after + _SCAN]:
            if len(events) == max_count:
                break
            position = stored.position
            if (types is None or stored.event.type in types) and (
                prefix is None or stored.stream.startswith(prefix)
            ):
                events.append(stored.decode())
        return AllPage(events, position, len(self._log))
