"""A store or session whose events are instances of a program's classes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

from anyio import Event

from eventport.context import current_context
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import EventStore, Streams, Subscription
from eventport.results import AllResult, AppendResult, ReadResult
from eventport.validation import check_metadata


E = TypeVar("E")


class TypedEvents(Protocol[E]):
    """What turns stored events into typed ones, and back. `EventTypes` does."""

    def new(self, event: E, *, metadata: Mapping[str, Any] | None = None) -> NewEvent:
        """Return an event to append."""
        ...

    def typed(self, event: RecordedEvent) -> RecordedEvent[E]:
        """Return a stored event with its data as an instance of its class."""
        ...


class TypedStreams(Generic[E]):
    """A store or session that takes and returns instances of a program's classes.

    `EventTypes.on` makes it. It raises what the store raises, and what `EventTypes.new` and
    `EventTypes.typed` raise.
    """

    def __init__(self, types: TypedEvents[E], streams: Streams) -> None:
        self._types = types
        self._streams = streams

    async def append(
        self,
        stream: str,
        events: Iterable[E],
        *,
        expected: Expectation = ANY,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append instances of registered classes to a stream, as `Streams.append` does.

        To repeat an append whose answer was lost, append events with ids of your own:
        `EventTypes.new` makes them.

        Args:
            stream: The stream's name.
            events: The instances.
            expected: What the stream's head must meet.
            metadata: What else to store with each event, besides what `bind_context` has bound.
        """
        every = {**current_context().metadata, **check_metadata(metadata)}
        new = [self._types.new(event, metadata=every) for event in events]
        return await self._streams.append(stream, new, expected=expected)

    async def read(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        max_count: int | None = None,
        backwards: bool = False,
        expected: Expectation = ANY,
    ) -> ReadResult[E]:
        """Read events of one stream, as `Streams.read` does."""
        found = await self._streams.read(
            stream,
            from_version=from_version,
            to_version=to_version,
            max_count=max_count,
            backwards=backwards,
            expected=expected,
        )
        return ReadResult([*map(self._types.typed, found.events)], found.version)

    async def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent[E], None]:
        """Go through events of one stream with bounded memory, as `Streams.iterate` does."""
        events = self._streams.iterate(
            stream, from_version=from_version, to_version=to_version, backwards=backwards
        )
        async with aclosing(events):
            async for event in events:
                yield self._types.typed(event)


class TypedStore(TypedStreams[E]):
    """A store that takes and returns instances of a program's classes.

    What it reads of all streams are the events of registered types, unless unknown ones are
    wanted raw.
    """

    def __init__(
        self, types: TypedEvents[E], store: EventStore, names: Collection[str] | None
    ) -> None:
        super().__init__(types, store)
        self._store = store
        self._names = names

    async def read_all(
        self, *, after: int = 0, max_count: int = 1000, prefix: str | None = None
    ) -> AllResult[E]:
        """Read events of all streams in the order of their commits, as `EventStore.read_all`."""
        found = await self._store.read_all(
            after=after, max_count=max_count, types=self._names, prefix=prefix
        )
        return AllResult([*map(self._types.typed, found.events)], found.position)

    async def iterate_all(
        self, *, after: int = 0, prefix: str | None = None
    ) -> AsyncGenerator[RecordedEvent[E], None]:
        """Go through all streams with bounded memory, as `EventStore.iterate_all` does."""
        events = self._store.iterate_all(after=after, types=self._names, prefix=prefix)
        async with aclosing(events):
            async for event in events:
                yield self._types.typed(event)

    def subscribe(
        self, *, after: int = 0, prefix: str | None = None
    ) -> AbstractAsyncContextManager[TypedSubscription[E]]:
        """Follow the store without end, as `EventStore.subscribe` does."""
        return self._subscribe(after, prefix)

    @asynccontextmanager
    async def _subscribe(
        self, after: int, prefix: str | None
    ) -> AsyncGenerator[TypedSubscription[E], None]:
        found = self._store.subscribe(after=after, types=self._names, prefix=prefix)
        async with found as subscription:
            yield TypedSubscription(self._types, subscription)


class TypedSubscription(Generic[E]):
    """All matching events, as instances of the program's classes: see `Subscription`."""

    def __init__(self, types: TypedEvents[E], subscription: Subscription) -> None:
        self._types = types
        self._subscription = subscription
        self._refused_after: int | None = None

    @property
    def position(self) -> int:
        """Where to resume: every matching event up to here has been handed out.

        An event that could not be decoded was not.
        """
        refused = self._refused_after
        return self._subscription.position if refused is None else refused

    @property
    def caught_up(self) -> Event:
        """Set once every event there was has been handed out and the caller asks for another."""
        return self._subscription.caught_up

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> RecordedEvent[E]:
        """Wait for the next event."""
        before = self.position
        event = await self._subscription.__anext__()
        self._refused_after = before
        typed = self._types.typed(event)
        self._refused_after = None
        return typed
