"""The session and the subscription of the reference store."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterable,
)
from typing import Protocol, Self, TypeVar

from anyio import Event
from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AggregateResult,
    AppendResult,
    Capability,
    Expectation,
    NewEvent,
    NotSupportedError,
    Query,
    QueryResult,
    ReadResult,
    RecordedEvent,
    StoreClosedError,
    Streams,
)

from eventport_conformance.proof.checks import (
    check_condition,
    check_expectation,
    check_initial,
    check_int,
    check_optional_int,
    check_query,
    check_stream,
    check_streams,
)
from eventport_conformance.proof.reference_data import Filter, ReferenceData


S = TypeVar("S")


class _Turns(Streams, Protocol):
    async def turn(self) -> None: ...


class ReadsMany:
    """Reads and folds many streams one by one, for the store and its sessions."""

    async def read_many(self: Streams, streams: Iterable[str]) -> dict[str, ReadResult]:
        """Read many streams."""
        return {name: await self.read(name) for name in check_streams(streams)}

    async def aggregate_many(
        self: _Turns,
        streams: Iterable[str],
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
    ) -> dict[str, AggregateResult[S]]:
        """Fold many streams."""
        names = check_streams(streams)
        await self.turn()
        make = check_initial(initial)
        return {name: await self.aggregate(name, evolve, make) for name in names}


class ReferenceSubscription:
    """A reader that goes on from position to position."""

    def __init__(
        self,
        store: ReferenceData,
        after: int,
        wanted: Filter,
    ) -> None:
        self.store = store
        self.wanted = wanted
        self.position = after
        self.caught_up = Event()
        self.left = False

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Wait for the next event."""
        await self.begin()
        while not self.left:
            self.store.check_open()
            seen = self.store.database.signal.count
            event = self.find()
            if event is not None:
                return event
            self.caught_up.set()
            await self.wait(seen)
        raise StopAsyncIteration

    async def begin(self) -> None:
        """Let others have a turn, before anything is taken."""
        await checkpoint()

    def find(self) -> RecordedEvent | None:
        """Look for the next event, and move on."""
        for event in self.store.after(self.position):
            self.position = event.position
            if self.is_wanted(event):
                return self.store.hand_out(event)
        return None

    def is_wanted(self, event: RecordedEvent) -> bool:
        """Return whether an event matches all filters."""
        return self.store.matches(event, self.wanted)

    async def wait(self, seen: int) -> None:
        """Wait until something has been written since then."""
        await self.store.database.signal.wait(seen, None)


class ReferenceSession(ReadsMany):
    """A unit of work: it keeps what is appended, and commits it once."""

    def __init__(self, store: ReferenceData) -> None:
        self.store = store
        self.pins: dict[str, int] = {}
        self.own: dict[str, list[NewEvent]] = {}
        self.writes: list[tuple[str, list[NewEvent]]] = []
        self.expected: list[tuple[str, Expectation]] = []
        self.queried: list[tuple[Query, str | None]] = []
        self.position: int | None = None
        self.ended = False

    async def turn(self) -> None:
        """Let others have a turn."""
        if self.ended:
            message = "the session has ended"
            raise StoreClosedError(message)
        await self.store.turn()

    def pin(self, stream: str) -> int:
        """Return the version at which the session saw a stream first."""
        return self.pins.setdefault(stream, self.store.head(stream))

    def head(self, stream: str) -> int:
        """Return a stream's version, with the session's own events."""
        return self.pin(stream) + len(self.own.get(stream, ()))

    async def require(self, stream: str, expected: Expectation) -> None:
        """Make an expectation a condition of the commit."""
        stream, expected = check_stream(stream), check_expectation(expected)
        self.need(Capability.GUARDS)
        await self.turn()
        head = self.head(stream)
        if not self.store.holds(expected, head):
            raise self.store.conflict(stream, expected, head)
        self.expect(stream, expected)

    def expect(self, stream: str, expected: Expectation) -> None:
        """Keep an expectation for the commit."""
        if expected != ANY:
            self.expected.append((stream, expected))

    def need(self, capability: Capability) -> None:
        """Refuse what the store cannot do."""
        if capability not in self.store.capabilities:
            message = f"this store has no {capability.value}, since it is kept simple"
            raise NotSupportedError(message)

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """Find what matches a query, and make it a condition of the commit."""
        check_query(query)
        self.need(Capability.CONDITIONS)
        position, most = check_int("after", after), check_optional_int("max_count", max_count)
        await self.turn()
        found = self.store.find(query, position, most, backwards=backwards)
        self.queried.append((query, found.token))
        own = [
            event
            for stream, events in self.writes
            for event in self.everything(stream)
            if event.id in {one.id for one in events} and self.store.covers(query, event)
        ]
        events = own[::-1] + found.events if backwards else found.events + own
        return QueryResult(events[:most], found.position, found.token)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """Keep events for the commit."""
        stream, expected = check_stream(stream), check_expectation(expected)
        taken = self.store.take_in(events)
        if check_condition(unless, since) is not None:
            self.store.seen_since(since)
            self.need(Capability.CONDITIONS)
        self.store.check_owner(stream, taken)
        await self.turn()
        head = self.head(stream)
        if not self.store.holds(expected, head):
            earlier = self.store.earlier(stream, expected, taken)
            if earlier is None:
                raise self.store.conflict(stream, expected, head)
            return earlier
        if unless is not None:
            self.queried.append((unless, since))
        if taken:
            self.keep(stream, taken)
        else:
            self.expect(stream, expected)
        created = head == 0 and bool(taken)
        return AppendResult(head + len(taken), None, created=created, deduplicated=False)

    def keep(self, stream: str, events: list[NewEvent]) -> None:
        """Keep events until the commit."""
        others = any(name != stream for name in self.own)
        if others and Capability.SESSIONS not in self.store.capabilities:
            message = "this store writes one stream in a commit, and cannot write a second one"
            raise NotSupportedError(message)
        self.own.setdefault(stream, []).extend(events)
        self.writes.append((stream, events))

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
        """Read a stream as the session sees it."""
        stream, expected = check_stream(stream), check_expectation(expected)
        first = check_int("from_version", from_version, least=1)
        last = check_optional_int("to_version", to_version)
        most = check_optional_int("max_count", max_count)
        await self.turn()
        head = self.head(stream)
        if not self.store.holds(expected, head):
            raise self.store.conflict(stream, expected, head)
        self.expect(stream, expected)
        seen = [
            event
            for event in self.everything(stream)
            if first <= event.version and (last is None or event.version <= last)
        ]
        return ReadResult((seen[::-1] if backwards else seen)[:most], head)

    def everything(self, stream: str) -> list[RecordedEvent]:
        """Return the stream up to the pin, and then the session's own events."""
        pin = self.pin(stream)
        own = [
            RecordedEvent(
                stream,
                version,
                0,
                event.type,
                event.data,
                event.metadata,
                event.id,
                self.store.time(stream, event),
                frozenset(event.tags),
            )
            for version, event in enumerate(self.own.get(stream, ()), pin + 1)
        ]
        old = self.store.database.streams.get(stream, [])[:pin]
        old = [event for event in old if self.store.database.is_visible(event)]
        return [self.store.hand_out(event) for event in old + own]

    async def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through a stream as the session sees it."""
        read = await self.read(
            stream, from_version=from_version, to_version=to_version, backwards=backwards
        )
        for event in read.events:
            yield event

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        *,
        to_version: int | None = None,
        expected: Expectation = ANY,
    ) -> AggregateResult[S]:
        """Fold a stream as the session sees it."""
        read = await self.read(stream, to_version=to_version, expected=expected)
        state = check_initial(initial)()
        for event in read.events:
            state = evolve(state, event)
        last = read.version if to_version is None else min(to_version, read.version)
        return AggregateResult(state, last, read.exists)

    async def commit(self) -> None:
        """Write what was kept, if no stream has moved."""
        if not self.writes:
            if self.expected or self.queried:
                await self.store.turn()
                self.check_guards()
            return
        if self.guards():
            self.need(Capability.GUARDS)
        await self.store.turn()
        self.check_pins()
        self.check_guards()
        recorded = self.store.write(self.writes)
        self.position = recorded[-1].position
        if self.store.hooks:
            await self.store.call_hooks(recorded)

    def check_pins(self) -> None:
        """Raise the conflict for a stream that has moved."""
        for stream in self.own:
            head = self.store.head(stream)
            if head != self.pins[stream]:
                raise self.store.conflict(stream, self.pins[stream], head)

    def guards(self) -> list[tuple[str, Expectation]]:
        """Return what was expected of streams that are not written to."""
        return [(stream, expected) for stream, expected in self.expected if stream not in self.own]

    def check_guards(self) -> None:
        """Raise the conflict of a condition that does not hold any more."""
        for stream, expected in self.guards():
            head = self.store.head(stream)
            if not self.store.holds(expected, head):
                raise self.store.conflict(stream, expected, head)
        for query, since in self.queried:
            self.store.check_condition(query, since)
