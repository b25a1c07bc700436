"""A whole event store by hand, from the protocol alone: it knows no base class of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self, TypeVar

from anyio import Event
from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AggregateResult,
    AllResult,
    AppendResult,
    BoundaryError,
    Capability,
    ConcurrencyError,
    EventStore,
    Expectation,
    NewEvent,
    NotSupportedError,
    Query,
    QueryResult,
    ReadResult,
    RecordedEvent,
    Session,
    StoreClosedError,
    StreamInfo,
    Subscription,
)


S = TypeVar("S")


class Notebook:
    """Keeps events in a list; one look at it finds everything."""

    capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})

    def __init__(self, events: Iterable[RecordedEvent] = ()) -> None:
        self.events = list(events)
        self.closed = False
        self.changed = Event()

    async def read(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        max_count: int | None = None,
        backwards: bool = False,
        expected: Expectation = ANY,
    ) -> ReadResult:
        await checkpoint()
        everything = self._stream(stream)
        self._require(stream, expected, len(everything))
        chosen = everything[from_version - 1 : to_version]
        return ReadResult((chosen[::-1] if backwards else chosen)[:max_count], len(everything))

    async def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        result = await self.read(
            stream, from_version=from_version, to_version=to_version, backwards=backwards
        )
        for event in result.events:
            yield event

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        await checkpoint()
        self._check_open()
        events = [one for one in self.events[after:] if query.covers(one.type, one.tags)]
        found = (events[::-1] if backwards else events)[:max_count]
        cut = len(found) < len(events) and not backwards
        seen = (found[-1].position if found else after) if cut else max(after, len(self.events))
        return QueryResult(found, seen, f"seen {seen}")

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        await checkpoint()
        version = len(self._stream(stream))
        self._require(stream, expected, version)
        self._check(unless, since)
        now = datetime.now(UTC)
        new = [
            RecordedEvent(
                stream,
                version + number,
                len(self.events) + number,
                event.type,
                event.data,
                event.metadata,
                event.id,
                now,
                frozenset(event.tags),
            )
            for number, event in enumerate(events, 1)
        ]
        self._write(new)
        return AppendResult(
            version + len(new),
            new[-1].position if new else None,
            created=version == 0 and bool(new),
            deduplicated=False,
        )

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        *,
        to_version: int | None = None,
        expected: Expectation = ANY,
    ) -> AggregateResult[S]:
        result = await self.read(stream, to_version=to_version, expected=expected)
        state = initial()
        for event in result.events:
            state = evolve(state, event)
        version = result.version if to_version is None else min(to_version, result.version)
        return AggregateResult(state, version, result.exists)

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        return {name: await self.read(name) for name in streams}

    async def aggregate_many(
        self,
        streams: Iterable[str],
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
    ) -> dict[str, AggregateResult[S]]:
        return {name: await self.aggregate(name, evolve, initial) for name in streams}

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        draft = Draft(self.events)
        seen = len(self.events)
        yield draft
        own = draft.events[seen:]
        for event in own:
            moved = [other for other in self.events[seen:] if other.stream == event.stream]
            if moved:
                raise ConcurrencyError(event.stream, event.version - 1, moved[-1].version)
        if own:
            self._write(own)
            draft.position = own[-1].position

    async def streams(
        self,
        *,
        prefix: str | None = None,
        category: str | None = None,
        after: str | None = None,
        max_count: int = 1000,
    ) -> list[StreamInfo]:
        asked = (prefix, category, after, max_count)
        message = f"a notebook has no list of its streams: {asked}"
        raise NotSupportedError(message)

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AllResult:
        await checkpoint()
        self._check_open()
        found = [
            event
            for event in self.events[after:]
            if (types is None or event.type in types)
            and event.stream.startswith(prefix or "")
            and (query is None or query.covers(event.type, event.tags))
        ]
        if len(found) > max_count:
            found = found[:max_count]
            return AllResult(found, found[-1].position if found else after)
        return AllResult(found, max(after, len(self.events)))

    async def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        result = await self.read_all(
            after=after, max_count=len(self.events), types=types, prefix=prefix, query=query
        )
        for event in result.events:
            yield event

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        after: int | Literal["end"] = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
        stream: str | None = None,
    ) -> AsyncGenerator[Subscription]:
        begin = len(self.events) if after == "end" else after
        yield Tail(self, begin, types, prefix, query, stream)

    async def aclose(self) -> None:
        await checkpoint()
        self.closed = True
        self.changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _stream(self, stream: str) -> list[RecordedEvent]:
        self._check_open()
        return [event for event in self.events if event.stream == stream]

    def _check(self, unless: Query | None, since: str | None) -> None:
        for event in self.events[0 if since is None else int(since.split()[1]) :]:
            if unless is not None and unless.covers(event.type, event.tags):
                raise BoundaryError(unless, event)

    def _write(self, events: list[RecordedEvent]) -> None:
        self.events += events
        self.changed.set()
        self.changed = Event()

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosedError("the notebook is closed")

    @staticmethod
    def _require(stream: str, expected: Expectation, actual: int) -> None:
        met = {"any": True, "no_stream": actual == 0, "stream_exists": actual > 0}
        if not met.get(str(expected), actual == expected):
            raise ConcurrencyError(stream, expected, actual)


class Draft(Notebook):
    """A session: a notebook of its own, copied back in the end."""

    position: int | None = None

    async def require(self, stream: str, expected: Expectation) -> None:
        await checkpoint()
        self._require(stream, expected, len(self._stream(stream)))


class Tail:
    """A subscription."""

    def __init__(
        self,
        store: Notebook,
        after: int,
        types: Collection[str] | None,
        prefix: str | None,
        query: Query | None,
        stream: str | None,
    ) -> None:
        self.store = store
        self.position = after
        self.types = types
        self.prefix = prefix
        self.query = query
        self.stream = stream
        self.caught_up = Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        while True:
            changed = self.store.changed
            found = await self.store.read_all(
                after=self.position,
                max_count=1,
                types=self.types,
                prefix=self.prefix,
                query=self.query,
            )
            self.position = found.position
            if found.events and self.stream in {None, found.events[0].stream}:
                return found.events[0]
            if not found.events:
                self.caught_up.set()
                await changed.wait()


def open_notebook() -> EventStore:
    """Return it as what it is, which type checkers have to accept."""
    return Notebook()
