"""The port: what a program may ask of an event store, whichever database keeps its events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, TypeVar

from anyio import Event

from eventport.boundaries import Query
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.results import (
    AggregateResult,
    AllResult,
    AppendResult,
    QueryResult,
    ReadResult,
    StreamInfo,
)


S = TypeVar("S")

After: TypeAlias = int | Literal["end"]
"""Where a subscription begins: after a position, or after all that is there."""


class Capability(Enum):
    """What only some backends can do; everything else, each of them can."""

    SESSIONS = "sessions"
    """One session can write several streams in one atomic commit."""
    GLOBAL_ORDER = "global_order"
    """`read_all`, `iterate_all` and `subscribe` work."""
    PUSH = "push"
    """Commits by other processes wake a subscription; it need not wait for its next poll."""
    SHARED = "shared"
    """Several stores, in several processes, can work on the same events."""
    DURABLE = "durable"
    """Events outlive the process that appended them."""
    GUARDS = "guards"
    """A commit can depend on streams that it does not write."""
    CONDITIONS = "conditions"
    """A commit can depend on what a query matches."""
    TIMES = "times"
    """A `CopiedEvent` keeps the time at which it was first recorded."""
    CATALOGUE = "catalogue"
    """`EventStore.streams` lists the streams, without a look at all events."""


class Streams(Protocol):
    """What a store and a session have in common; code typed against it runs in both."""

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
        """Read events of one stream.

        Args:
            stream: The stream's name; a stream that does not exist reads as empty.
            from_version: The lowest version wanted, inclusive, in both directions.
            to_version: The highest version wanted, inclusive; None for the head.
            max_count: At most this many events; 0 gives none, but still the head.
            backwards: Newest first. It reverses the order and does not change the range.
            expected: What the stream's head must meet.

        Raises:
            ConcurrencyError: `expected` does not hold.
        """
        ...

    def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through events of one stream with bounded memory.

        It ends at the head that its first page saw, and holds no connection between pages.
        """
        ...

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """Read the events of all streams that match a query, and a token for what was seen.

        It shows all that is committed, in the order of positions. An event that `read_all` does
        not show yet, because an earlier one may still appear, is here already.

        Args:
            query: Which events.
            after: Only events after this position, which the caller has seen up to there. For a
                decision take it from `read_all`, or leave it out: below the position of a query
                an event may still become visible.
            max_count: At most this many events; 0 gives none.
            backwards: Newest first. It reverses the order and does not change the range. Then the
                token stands for the whole store as of the read, however few events are given.

        Raises:
            NotSupportedError: the backend has no `Capability.GLOBAL_ORDER`; or in a session, no
                `Capability.CONDITIONS`.
        """
        ...

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """Append events to a stream, all or nothing, if `expected` holds and `unless` does not.

        The check and the write are one atomic step. An append that expects an exact version (or
        no stream) and finds exactly its own events there succeeds with the original result, so
        it can be retried after a lost answer. So can one with `unless`, if that matches one of
        its own events. No events: only the conditions are checked.

        Args:
            stream: The stream's name.
            events: What to append.
            expected: What the stream's head must meet.
            unless: An event that matches this and that the caller has not seen is a conflict.
            since: The token of the query's result, which says what the caller has seen. The query
                of `unless` may match less than that one, but not more. None: nothing was seen.

        Raises:
            ConcurrencyError: `expected` does not hold; nothing was written.
            BoundaryError: an event matches `unless` and was not seen; nothing was written. If
                `expected` does not hold, either, that is the error.
            InvalidEventError: an event cannot be stored unharmed; nothing was written.
            NotSupportedError: a `CopiedEvent`, on a backend without `Capability.TIMES`.
            PayloadTooLargeError: the backend refuses the size; nothing was written.
            StoreUnavailableError: the outcome could not be learned; retry with the same events.
        """
        ...

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        *,
        to_version: int | None = None,
        expected: Expectation = ANY,
    ) -> AggregateResult[S]:
        """Fold a stream into a state, with bounded memory.

        Args:
            stream: The stream's name.
            evolve: Gives the state after an event, from the state before it.
            initial: Makes the state before the first event, anew for each fold: ``list``,
                ``Cart`` or ``lambda: Cart(limit=5)``.
            to_version: Fold no further than this version.
            expected: What the stream's head must meet.

        Raises:
            ConcurrencyError: `expected` does not hold; nothing was folded.
            InvalidArgumentTypeError: `initial` is a value, or `evolve` a coroutine function.
        """
        ...

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        """Read many streams from end to end, with as few round trips as the backend can do.

        Each result is what `read` returns. Those of different streams need not be of one moment.

        Args:
            streams: Their names. Each comes once in the result, in this order; a stream that does
                not exist reads as empty.
        """
        ...

    async def aggregate_many(
        self,
        streams: Iterable[str],
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
    ) -> dict[str, AggregateResult[S]]:
        """Fold many streams, each into a state of its own, as `read_many` reads them.

        Memory grows with the states, not with the streams.

        Args:
            streams: Their names.
            evolve: Gives the state after an event, from the state before it.
            initial: Makes the state before the first event, anew for each stream.

        Raises:
            InvalidArgumentTypeError: `initial` is a value, or `evolve` a coroutine function.
        """
        ...


class Session(Streams, Protocol):
    """A unit of work: appends are kept until the block ends and are then committed together.

    Reads see the session's own appends. Nobody else sees anything before the commit. What was
    read under an expectation, required or queried is a condition of the commit: if it does not
    hold any more, nothing is written. A session that appends nothing checks that once, at its end.
    """

    async def require(self, stream: str, expected: Expectation) -> None:
        """Make an expectation about a stream a condition of the commit.

        The stream need not be written to. To write to it as well, append.

        Raises:
            ConcurrencyError: it does not hold now; at the end of the block, if it does not then.
            NotSupportedError: the backend has no `Capability.GUARDS`.
        """
        ...

    @property
    def position(self) -> int | None:
        """The global position of the last event committed; None until the commit."""
        ...


class Subscription(Protocol):
    """All matching events: those there already, then each new one. It never ends by itself."""

    @property
    def position(self) -> int:
        """Where to resume: every matching event up to here has been handed out."""
        ...

    @property
    def caught_up(self) -> Event:
        """Set once every event there was has been handed out and the caller asks for another."""
        ...

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        ...

    async def __anext__(self) -> RecordedEvent:
        """Wait for the next event."""
        ...


class EventStore(Streams, Protocol):
    """A store of events. It is an async context manager that closes itself."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this backend can do beyond what all of them can."""
        ...

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Open a unit of work over many streams, committed when the block ends.

        An exception in the block commits nothing. A stream that the session appends to is pinned
        at the version that the session saw first.

        Raises:
            ConcurrencyError: at the end of the block, if a pinned stream has moved, or a stream
                no longer meets what was expected of it; nothing was written.
            BoundaryError: at the end of the block, if an event matches what was queried, and was
                not there then; nothing was written.
            NotSupportedError: at the append to a second stream, on a backend without
                `Capability.SESSIONS`; at the end of the block, if it has events and conditions,
                on a backend without `Capability.GUARDS`.
        """
        ...

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AllResult:
        """Read events of all streams in the order of their commits.

        Once a position has been seen, no event at or below it ever appears later. An event has to
        match all filters that are given.

        Args:
            after: Only events after this position; 0 for the beginning.
            max_count: At most this many events.
            types: Only events of these types.
            prefix: Only events of streams whose name starts with this.
            query: Only events that match this; `types` and `prefix` narrow it further.
        """
        ...

    def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Go through all streams with bounded memory; it ends at the head seen at the start."""
        ...

    def subscribe(
        self,
        *,
        after: After = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
        stream: str | None = None,
    ) -> AbstractAsyncContextManager[Subscription]:
        """Follow the store: first the events after a position, then each new one, without end.

        It survives lost connections; no event is missed or repeated. An event has to match all
        filters that are given.

        Args:
            after: Only events after this position; 0 for the beginning. ``"end"`` for what
                becomes readable from now on: `Subscription.position` is where the store ended
                when the block was entered, which takes one look-up.
            types: Only events of these types.
            prefix: Only events of streams whose name starts with this.
            query: Only events that match this.
            stream: Only events of the stream of exactly this name.

        Raises:
            HistoryReplacedError: `after` lies beyond the head; or, after a lost connection, the
                last event that was handed out is not there any more.
        """
        ...

    async def streams(
        self,
        *,
        prefix: str | None = None,
        category: str | None = None,
        after: str | None = None,
        max_count: int = 1000,
    ) -> list[StreamInfo]:
        """List streams by name, in the order of code points, which is that of their UTF-8 bytes.

        For the next page, pass the name of the last stream as `after`; a page with fewer than
        `max_count` is the last one. A stream that is there when the first page is read comes once.
        A deleted stream is left out. A stream has to match all filters that are given.

        Args:
            prefix: Only streams whose name starts with this. The toolkit's own streams are left
                out, unless this begins with ``eventport/``.
            category: Only streams of this category, as `eventport.catalogue.category_of` returns
                it: with ``order``, ``order-7`` is listed, and ``order-item-7`` is not.
            after: Only streams whose name comes after this one, whether or not it is there.
            max_count: At most this many streams.

        Raises:
            NotSupportedError: the backend has no `Capability.CATALOGUE`.
        """
        ...

    async def aclose(self) -> None:
        """Wait for pending appends, then close; every later call raises `StoreClosedError`."""
        ...

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Close the store."""
        ...
