"""A right store that knows no base class: it shows that the suite asks for the protocol alone.

Each thing that it does stands in a method of its own, so that a bug can be planted by overriding
it.
"""

from __future__ import annotations

import logging

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeAlias, TypeVar

from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AggregateResult,
    AllResult,
    AppendResult,
    Capability,
    ConcurrencyError,
    Expectation,
    HistoryReplacedError,
    NewEvent,
    NotSupportedError,
    ReadResult,
    RecordedEvent,
    Session,
    StoreClosedError,
    Subscription,
)
from eventport.affinity import Affinity
from eventport.codec import encode_events
from eventport.expectations import exact_version, holds
from eventport.signal import Signal
from eventport.validation import (
    check_expectation,
    check_initial,
    check_int,
    check_optional_int,
    check_prefix,
    check_stream,
    check_types,
)


S = TypeVar("S")

Hook: TypeAlias = Callable[[Sequence[RecordedEvent]], Awaitable[None]]
Writes: TypeAlias = Sequence[tuple[str, Sequence[NewEvent]]]

STEP: Final = 3
"""From one position to the next, so that a clause that takes them for contiguous is found out."""

_log: Final = logging.getLogger("eventport")


class Database:
    """The events, which outlive the stores on them."""

    def __init__(self) -> None:
        self.log: list[RecordedEvent] = []
        self.streams: dict[str, list[RecordedEvent]] = {}
        self.signal = Signal()


class PlainStore:
    """An event store, written out by hand."""

    capabilities: frozenset[Capability] = frozenset(Capability)

    def __init__(self, database: Database) -> None:
        self.database = database
        self.hooks: list[Hook] = []
        self.closed = False
        self.affinity = Affinity()

    # What is done to the data.

    def head(self, stream: str) -> int:
        """Return a stream's version."""
        return len(self.database.streams.get(stream, ()))

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        """Check events, and return copies that nobody else holds."""
        events = list(events) if _is_iterator(events) else events
        encode_events(events)
        return [NewEvent(str(e.type), deepcopy(e.data), deepcopy(e.metadata), e.id) for e in events]

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        """Return a copy of an event that its reader may change."""
        return RecordedEvent(
            event.stream,
            event.version,
            event.position,
            event.type,
            deepcopy(event.data),
            deepcopy(event.metadata),
            event.id,
            event.recorded_at,
        )

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        """Put one event into the database."""
        recorded = RecordedEvent(
            stream,
            self.head(stream) + 1,
            STEP * (len(self.database.log) + 1),
            event.type,
            event.data,
            event.metadata,
            event.id,
            datetime.now(UTC),
        )
        self.database.log.append(recorded)
        self.database.streams.setdefault(stream, []).append(recorded)
        return recorded

    def write(self, writes: Writes) -> list[RecordedEvent]:
        """Put the events of one commit into the database, all at once."""
        recorded = [self.record(stream, event) for stream, events in writes for event in events]
        self.database.signal.notify()
        return recorded

    def holds(self, expected: Expectation, head: int) -> bool:
        """Tell whether an expectation holds."""
        return holds(expected, head)

    def conflict(self, stream: str, expected: Expectation, head: int) -> ConcurrencyError:
        """Make the error for an expectation that does not hold."""
        return ConcurrencyError(stream, expected, head)

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        """Find that these very events stand there already."""
        before = exact_version(expected)
        if before is None or not events:
            return None
        last = before + len(events)
        stored = self.database.streams.get(stream, [])[before:last]
        if [event.id for event in stored] != [event.id for event in events]:
            return None
        return AppendResult(last, stored[-1].position, created=before == 0, deduplicated=True)

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        """Find the events of a range."""
        found = self.database.streams.get(stream, [])[first - 1 : last]
        return [self.hand_out(event) for event in (found[::-1] if backwards else found)[:most]]

    def matches(
        self, event: RecordedEvent, types: frozenset[str] | None, prefix: str | None
    ) -> bool:
        """Tell whether an event is asked for."""
        return (types is None or event.type in types) and event.stream.startswith(prefix or "")

    def behind(self, position: int) -> list[RecordedEvent]:
        """Return the events behind a position."""
        return self.database.log[position // STEP :]

    def last_position(self) -> int:
        """Return the position of the newest event."""
        return self.database.log[-1].position if self.database.log else 0

    def check_open(self) -> None:
        """Refuse everything after closing."""
        if self.closed:
            message = "the store has been closed"
            raise StoreClosedError(message)
        self.check_place()

    def check_place(self) -> None:
        """Refuse everything in another event loop."""
        self.affinity.check(self)

    async def turn(self) -> None:
        """Let others have a turn; what has begun before the store is closed comes to its end."""
        self.check_open()
        await checkpoint()

    async def told(self, recorded: Sequence[RecordedEvent]) -> None:
        """Call the hooks after a commit."""
        with CancelScope(shield=True):
            for hook in self.hooks:
                try:
                    await hook([self.hand_out(event) for event in recorded])
                except Exception:  # noqa: BLE001  # whatever it is, the commit stands
                    _log.exception("after-commit hook %r failed; the commit stands", hook)

    # The protocol.

    def after_commit(self, hook: Hook) -> Hook:
        """Register a hook."""
        self.hooks.append(hook)
        return hook

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, expected: Expectation = ANY
    ) -> AppendResult:
        """Append events."""
        stream, expected = check_stream(stream), check_expectation(expected)
        taken = self.take_in(events)
        await self.turn()
        return await self.append_now(stream, taken, expected)

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
            await self.told(recorded)
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

    def new_session(self) -> PlainSession:
        """Make a unit of work."""
        return PlainSession(self)

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AllResult:
        """Read events of all streams."""
        position, most = check_int("after", after), check_int("max_count", max_count)
        chosen, start = check_types(types), check_prefix(prefix)
        await self.turn()
        found: list[RecordedEvent] = []
        for event in self.behind(position):
            if len(found) == most:
                break
            position = event.position
            if self.matches(event, chosen, start):
                found.append(self.hand_out(event))
        return AllResult(found, position)

    async def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through all streams."""
        read = await self.read_all(after=after, max_count=2**62, types=types, prefix=prefix)
        for event in read.events:
            yield event

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """Follow the store."""
        self.check_open()
        after, chosen = check_int("after", after), check_types(types)
        self.check_reached(after)
        subscription = self.new_subscription(after, chosen, check_prefix(prefix))
        try:
            yield subscription
        finally:
            subscription.left = True
            self.database.signal.notify()

    def check_reached(self, position: int) -> None:
        """Refuse a position beyond the last event."""
        if position > self.last_position():
            message = f"position {position} is beyond the last event: take that of this store"
            raise HistoryReplacedError(message)

    def new_subscription(
        self, after: int, types: frozenset[str] | None, prefix: str | None
    ) -> PlainSubscription:
        """Make a subscription."""
        return PlainSubscription(self, after, types, prefix)

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


class HumbleStore(PlainStore):
    """A right store that can do only what all stores can."""

    capabilities = frozenset()

    def after_commit(self, hook: Hook) -> Hook:
        """Refuse hooks."""
        message = f"this store has no hooks, and does not call {hook!r}"
        raise NotSupportedError(message)

    async def read_all(self, **_: Any) -> NoReturn:
        """Refuse to tell the order of all events."""
        raise _no_order()

    async def iterate_all(self, **_: Any) -> AsyncGenerator[RecordedEvent, None]:
        """Refuse to tell the order of all events."""
        events: list[RecordedEvent] = []
        for event in events:
            yield event
        raise _no_order()

    @asynccontextmanager
    async def subscribe(self, **_: Any) -> AsyncGenerator[Subscription, None]:
        """Refuse to tell the order of all events."""
        if self.closed or not self.closed:
            raise _no_order()
        yield self.new_subscription(0, None, None)


class PlainSubscription:
    """A reader that goes on from position to position."""

    def __init__(
        self,
        store: PlainStore,
        after: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> None:
        self.store = store
        self.types = types
        self.prefix = prefix
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
        for event in self.store.behind(self.position):
            self.position = event.position
            if self.store.matches(event, self.types, self.prefix):
                return self.store.hand_out(event)
        return None

    async def wait(self, seen: int) -> None:
        """Wait until something has been written since then."""
        await self.store.database.signal.wait(seen, None)


class PlainSession:
    """A unit of work: it keeps what is appended, and commits it once."""

    def __init__(self, store: PlainStore) -> None:
        self.store = store
        self.pins: dict[str, int] = {}
        self.own: dict[str, list[NewEvent]] = {}
        self.writes: list[tuple[str, list[NewEvent]]] = []
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

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, expected: Expectation = ANY
    ) -> AppendResult:
        """Keep events for the commit."""
        stream, expected = check_stream(stream), check_expectation(expected)
        taken = self.store.take_in(events)
        await self.turn()
        head = self.head(stream)
        if not self.store.holds(expected, head):
            earlier = self.store.earlier(stream, expected, taken)
            if earlier is None:
                raise self.store.conflict(stream, expected, head)
            return earlier
        if taken:
            self.keep(stream, taken)
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
        seen = self.everything(stream)[first - 1 : last]
        return ReadResult((seen[::-1] if backwards else seen)[:most], head)

    def everything(self, stream: str) -> list[RecordedEvent]:
        """Return the stream up to the pin, and the session's own events behind it."""
        pin = self.pin(stream)
        now = datetime.now(UTC)
        own = [
            RecordedEvent(stream, version, 0, event.type, event.data, event.metadata, event.id, now)
            for version, event in enumerate(self.own.get(stream, ()), pin + 1)
        ]
        old = self.store.database.streams.get(stream, [])[:pin]
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
            return
        await self.store.turn()
        self.check_pins()
        recorded = self.store.write(self.writes)
        self.position = recorded[-1].position
        if self.store.hooks:
            await self.store.told(recorded)

    def check_pins(self) -> None:
        """Raise the conflict for a stream that has moved."""
        for stream in self.own:
            head = self.store.head(stream)
            if head != self.pins[stream]:
                raise self.store.conflict(stream, self.pins[stream], head)


def _no_order() -> NotSupportedError:
    return NotSupportedError("this store has no order of all events")


def _is_iterator(events: Any) -> bool:
    return hasattr(events, "__next__")
