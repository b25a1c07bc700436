"""Stores and sessions that add what is bound to the metadata of all that is appended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

from msgspec.structs import replace

from eventport.boundaries import Query
from eventport.context.binding import current_context
from eventport.events import CopiedEvent, NewEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AppendResult
from eventport.validation import TOOLKIT_STREAMS


St = TypeVar("St", bound=Streams)
Store = TypeVar("Store", bound=EventStore)

_OPTIONAL: Final = ("after_commit", "inline", "checkpoints", "read_models")
"""What the toolkit finds out by `isinstance`, which does not see what `__getattr__` finds."""


def with_context(store: Store) -> Store:
    """Return a store that adds what is bound to the metadata of each event that it appends.

    That also goes for its sessions. Keys that an event has already are not touched, nor are
    copies and the streams of the toolkit. All other methods are those of the store, the backend's
    own ones included. It stays open as long as the store, and closes it if it is closed.

    Args:
        store: Any event store.
    """
    return cast("Store", AppendingStore(store))


class AppendingStreams(Generic[St]):
    """A store or a session that adds metadata to events before it appends them.

    Args:
        streams: The store or session. All else is as it is there.
    """

    def __init__(self, streams: St) -> None:
        self._inner = streams
        for name in _OPTIONAL:
            if hasattr(streams, name):
                setattr(self, name, getattr(streams, name))

    def __getattr__(self, name: str) -> Any:
        """Return what the store or session has."""
        return getattr(self._inner, name)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """See `Streams.append`."""
        return await self._inner.append(
            stream, self._changed(stream, events), expected=expected, unless=unless, since=since
        )

    def _changed(self, stream: str, events: Iterable[NewEvent]) -> Iterable[NewEvent]:
        """Return the events with more metadata; what is wrong with them, the store says."""
        given = cast("object", events)
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            return events
        if isinstance(cast("object", stream), str) and stream.startswith(TOOLKIT_STREAMS):
            return events
        metadata = self._metadata_to_add()
        return [self._complete(event, metadata) if metadata else event for event in events]

    def _metadata_to_add(self) -> dict[str, Any]:
        """Return what to add to each event."""
        return current_context().metadata

    def _complete(self, event: NewEvent, metadata: Mapping[str, Any]) -> NewEvent:
        """Return an event with more metadata; what it has itself wins, and copies stay."""
        if isinstance(event, CopiedEvent):
            return event
        return with_metadata(event, lambda own: {**metadata, **own})


class AppendingStore(AppendingStreams[EventStore]):
    """A store whose sessions add metadata, too."""

    def session(self) -> AbstractAsyncContextManager[Session]:
        """See `EventStore.session`."""
        return self._session()

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Session]:
        async with self._inner.session() as session:
            yield cast("Session", AppendingStreams(session))

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    def __repr__(self) -> str:
        return f"with_context({self._inner!r})"


def with_metadata(event: NewEvent, change: Callable[[dict[str, Any]], dict[str, Any]]) -> NewEvent:
    """Return an event with other metadata; what is no event is left to the store to refuse."""
    known: Any = event
    if not isinstance(known, NewEvent) or not isinstance(cast("object", known.metadata), dict):
        return event
    return replace(event, metadata=change(known.metadata))
