"""A session that notes what is appended in it, for the record of a command."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from eventport.boundaries import Query
from eventport.context import COMMAND_ID, CORRELATION_ID, current_context
from eventport.context.appending import AppendingStreams, with_metadata
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import Session
from eventport.results import AppendResult
from eventport.toolkit_streams import is_toolkit_stream


class Effect(NamedTuple):
    """What a command did to a stream."""

    stream: str | None
    first_version: int | None
    events: list[NewEvent]


class RecordingSession(AppendingStreams[Session]):
    """A session whose events carry the id of a command, and what is bound.

    Args:
        session: What is written in.
        id_: The command's identity.
        metadata: What else to store with each event.
        hidden: Replaces a user's name in metadata where the log keeps a hash of it.
    """

    def __init__(
        self,
        session: Session,
        id_: UUID,
        metadata: Mapping[str, Any],
        hidden: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        super().__init__(session)
        self._id = str(id_)
        self._metadata = metadata
        self._hidden = hidden
        self._written: dict[str, Effect] = {}
        self._seen: dict[str, None] = {}

    def effects(self) -> list[Effect]:
        """Return what was done to each stream; if nothing was written, the streams seen."""
        seen = [Effect(stream, None, []) for stream in self._seen]
        return [*self._written.values()] or seen or [Effect(None, None, [])]

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
        new = self.changed(stream, events)
        appended = await self.streams.append(
            stream, new, expected=expected, unless=unless, since=since
        )
        if isinstance(new, list) and new and not is_toolkit_stream(stream):
            first = appended.version - len(new) + 1
            self._written.setdefault(stream, Effect(stream, first, [])).events.extend(new)
        return appended

    def read(self, stream: str, **options: Any) -> Any:
        """See `Streams.read`."""
        self._see(stream)
        return self.streams.read(stream, **options)

    def iterate(self, stream: str, **options: Any) -> AsyncGenerator[RecordedEvent]:
        """See `Streams.iterate`."""
        self._see(stream)
        return self.streams.iterate(stream, **options)

    def aggregate(self, stream: str, *fold: Any, **options: Any) -> Any:
        """See `Streams.aggregate`."""
        self._see(stream)
        return self.streams.aggregate(stream, *fold, **options)

    def metadata(self) -> dict[str, Any]:
        """Return what to add: the command's id, what is bound, and what its caller gave."""
        bound = current_context().metadata
        return {CORRELATION_ID: self._id, **bound, **self._metadata, COMMAND_ID: self._id}

    def complete(self, event: NewEvent, metadata: Mapping[str, Any]) -> NewEvent:
        """Return an event with more metadata, in which no user is named who is to be hidden."""
        completed = super().complete(event, metadata)
        return with_metadata(completed, self._hidden)

    def _see(self, stream: object) -> None:
        if isinstance(stream, str) and not is_toolkit_stream(stream):
            self._seen[stream] = None
