"""A right store that knows no base class: it shows that the suite asks for the protocol alone.

Each thing that it does is in a method of its own, so that a mutant can be made by overriding
it.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AggregateResult,
    AllResult,
    AppendResult,
    BoundaryError,
    Capability,
    Expectation,
    HistoryReplacedError,
    NewEvent,
    NotSupportedError,
    Query,
    QueryResult,
    ReadResult,
    RecordedEvent,
    Session,
    StreamInfo,
    Subscription,
)

from eventport_conformance.proof.checks import (
    check_condition,
    check_expectation,
    check_initial,
    check_int,
    check_optional_int,
    check_prefix,
    check_query,
    check_stream,
    check_types,
)
from eventport_conformance.proof.reference_data import Filter, Hook, ReferenceData
from eventport_conformance.proof.reference_session import (
    ReadsMany,
    ReferenceSession,
    ReferenceSubscription,
)


S = TypeVar("S")


class ReferenceStore(ReadsMany, ReferenceData):
    """An event store, written out by hand."""

    def after_commit(self, hook: Hook) -> Hook:
        """Register a hook."""
        self.hooks.append(hook)
        return hook

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """Find what matches a query."""
        query, position = check_query(query), check_int("after", after)
        most = check_optional_int("max_count", max_count)
        await self.turn()
        return self.find(query, position, most, backwards=backwards)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """Append events."""
        stream, expected = check_stream(stream), check_expectation(expected)
        taken, unless = self.take_in(events), check_condition(unless, since)
        self.check_owner(stream, taken)
        if unless is None:
            await self.turn()
            return await self.append_now(stream, taken, expected)
        self.seen_since(since)
        self.check_guards()
        await self.turn()
        return await self.append_if(stream, taken, expected, unless, since)

    def check_guards(self) -> None:
        """Refuse a condition if the store cannot check it."""
        if Capability.CONDITIONS not in self.capabilities:
            message = "this store checks no conditions, since it is kept simple"
            raise NotSupportedError(message)

    async def append_if(
        self,
        stream: str,
        events: list[NewEvent],
        expected: Expectation,
        unless: Query,
        since: str | None,
    ) -> AppendResult:
        """Append events if a condition holds; the stream's conflict counts first."""
        if self.holds(expected, self.head(stream)):
            earlier = self.meet_condition(stream, events, unless, since)
            if earlier is not None:
                return earlier
        return await self.append_now(stream, events, expected)

    def meet_condition(
        self, stream: str, events: list[NewEvent], unless: Query, since: str | None
    ) -> AppendResult | None:
        """Return the result of an earlier try; raise if something else breaks a condition."""
        try:
            self.check_condition(unless, since)
        except BoundaryError as exc:
            ids = [event.id for event in events]
            if exc.event.id not in ids:
                raise
            before = exc.event.version - ids.index(exc.event.id) - 1
            earlier = self.earlier(stream, before, events)
            if earlier is None:
                raise
            return earlier
        return None

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        """Append events that have been checked; nothing is awaited before they are written."""
        head = self.head(stream)
        if not self.holds(expected, head):
            earlier = self.earlier(stream, expected, events)
            if earlier is None:
                raise self.conflict(stream, expected, head)
            return earlier
        if not events:
            return AppendResult(head, None, created=False, deduplicated=False)
        recorded = self.write([(stream, events)])
        result = self.result(recorded, created=head == 0)
        if self.hooks:
            await self.call_hooks(recorded)
        return result

    def result(self, recorded: Sequence[RecordedEvent], *, created: bool) -> AppendResult:
        """Say what an append did."""
        last = recorded[-1]
        return AppendResult(last.version, last.position, created=created, deduplicated=False)

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
        """Read a range of a stream."""
        stream, expected = check_stream(stream), check_expectation(expected)
        first, last = check_int("from_version", from_version, least=1), to_version
        last = check_optional_int("to_version", last)
        most = check_optional_int("max_count", max_count)
        await self.turn()
        head = self.head(stream)
        if not self.holds(expected, head):
            raise self.conflict(stream, expected, head)
        return ReadResult(self.select(stream, first, last, most, backwards=backwards), head)

    async def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through a range of a stream."""
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
        """Fold a stream."""
        read = await self.read(stream, to_version=to_version, expected=expected)
        state = check_initial(initial)()
        for event in read.events:
            state = evolve(state, event)
        last = read.version if to_version is None else min(to_version, read.version)
        return AggregateResult(state, last, read.exists)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        """Open a unit of work."""
        self.check_open()
        session = self.new_session()
        try:
            yield session
        finally:
            session.ended = True
        await session.commit()

    def new_session(self) -> ReferenceSession:
        """Make a unit of work."""
        return ReferenceSession(self)

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AllResult:
        """Read events of all streams."""
        position, most = check_int("after", after), check_int("max_count", max_count)
        wanted = check_filter(types, prefix, query)
        await self.turn()
        found: list[RecordedEvent] = []
        for event in self.after(position):
            if len(found) == most:
                break
            position = event.position
            if self.matches(event, wanted):
                found.append(self.hand_out(event))
        return AllResult(found, position)

    async def streams(
        self,
        *,
        prefix: str | None = None,
        category: str | None = None,
        after: str | None = None,
        max_count: int = 1000,
    ) -> list[StreamInfo]:
        """List the streams."""
        start, most = check_prefix(prefix), check_int("max_count", max_count)
        of = None if category is None else check_stream(category)
        bound = "" if after is None else check_stream(after)
        await self.turn()
        found = [
            name
            for name in self.known_streams()
            if self.is_listed(name, start or "", of) and name > bound
        ]
        return [self.describe(name) for name in found[:most]]

    async def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through all streams."""
        read = await self.read_all(
            after=after, max_count=2**62, types=types, prefix=prefix, query=query
        )
        for event in read.events:
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
    ) -> AsyncGenerator[Subscription, None]:
        """Follow the store."""
        self.check_open()
        begin = self.end() if after == "end" else check_int("after", after)
        wanted = check_filter(types, prefix, query, stream)
        self.check_reached(begin)
        subscription = self.new_subscription(begin, wanted)
        try:
            yield subscription
        finally:
            subscription.left = True
            self.database.signal.notify()

    def end(self) -> int:
        """Return where a subscription to what is new begins."""
        return self.last_position()

    def check_reached(self, position: int) -> None:
        """Refuse a position beyond the last event."""
        if position > self.last_position():
            message = f"position {position} is beyond the last event: take that of this store"
            raise HistoryReplacedError(message)

    def new_subscription(self, after: int, wanted: Filter) -> ReferenceSubscription:
        """Make a subscription."""
        return ReferenceSubscription(self, after, wanted)

    async def aclose(self) -> None:
        """Close the store."""
        self.check_place()
        self.closed = True
        self.database.signal.notify()
        await checkpoint()

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self.aclose()


class MinimalStore(ReferenceStore):
    """A right store that can do only what all stores can."""

    capabilities = frozenset()

    def after_commit(self, hook: Hook) -> Hook:
        """Refuse hooks."""
        message = f"this store has no hooks, and does not call {hook!r}"
        raise NotSupportedError(message)

    async def streams(self, **_: Any) -> NoReturn:
        """Refuse: there is no list."""
        raise NotSupportedError("this store has no list of its streams")

    async def query(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no order of all events."""
        raise _no_order()

    async def read_all(self, **_: Any) -> NoReturn:
        """Refuse: there is no order of all events."""
        raise _no_order()

    async def iterate_all(self, **_: Any) -> AsyncGenerator[RecordedEvent, None]:
        """Refuse: there is no order of all events."""
        events: list[RecordedEvent] = []
        for event in events:
            yield event
        raise _no_order()

    @asynccontextmanager
    async def subscribe(self, **_: Any) -> AsyncGenerator[Subscription, None]:
        """Refuse: there is no order of all events."""
        if self.closed or not self.closed:
            raise _no_order()
        yield self.new_subscription(0, Filter())


def check_filter(types: Any, prefix: Any, query: Any, stream: Any = None) -> Filter:
    """Check which events are wanted."""
    checked = None if query is None else check_query(query)
    name = None if stream is None else check_stream(stream)
    return Filter(check_types(types), check_prefix(prefix), checked, name)


def _no_order() -> NotSupportedError:
    return NotSupportedError("this store has no order of all events")
