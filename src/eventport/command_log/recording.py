"""A session that notes what is appended in it, for the record of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from eventport.boundaries import Query
from eventport.context import COMMAND_ID, CORRELATION_ID, current_context
from eventport.context.appending import AppendingStreams, with_metadata
from eventport.events import CopiedEvent, NewEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import Session
from eventport.results import AppendResult
from eventport.toolkit_streams import is_toolkit_stream


_READS: Final = frozenset({"read", "iterate", "aggregate", "read_many", "aggregate_many"})
"""Methods of sessions whose first argument is a stream's name, or names."""


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
        new = self._changed(stream, events)
        appended = await self._inner.append(
            stream, new, expected=expected, unless=unless, since=since
        )
        if isinstance(new, list) and new and not is_toolkit_stream(stream):
            first = appended.version - len(new) + 1
            self._written.setdefault(stream, Effect(stream, first, [])).events.extend(new)
        return appended

    def __getattr__(self, name: str) -> Any:
        """Return what the session has, and note which streams its reads are about."""
        found = super().__getattr__(name)
        return partial(self._read_noting, found) if name in _READS else found

    def _metadata_to_add(self) -> dict[str, Any]:
        """Return what to add: the command's id, what is bound, and what its caller gave."""
        bound = current_context().metadata
        return {CORRELATION_ID: self._id, **bound, **self._metadata, COMMAND_ID: self._id}

    def _complete(self, event: NewEvent, metadata: Mapping[str, Any]) -> NewEvent:
        """Return an event with more metadata, in which no user is named who is to be hidden.

        What it has that is bound was added on its way here, and so gives way to what the caller
        of the command gave.
        """
        bound = current_context().metadata

        def changed(own: dict[str, Any]) -> dict[str, Any]:
            kept = {key: own[key] for key in own if key not in bound or own[key] != bound[key]}
            return self._hidden({**metadata, **kept})

        return event if isinstance(event, CopiedEvent) else with_metadata(event, changed)

    def _read_noting(self, read: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Note the streams that a call is about, and make it."""
        if not arguments:  # it is called by the names of its parameters
            arguments = (options.pop("stream", options.pop("streams", None)),)
        streams, *rest = arguments
        is_many = not isinstance(streams, str) and isinstance(streams, Iterable)
        names: list[Any] = [*streams] if is_many else [streams]
        self._seen |= dict.fromkeys(
            name for name in names if isinstance(name, str) and not is_toolkit_stream(name)
        )
        return read(names if is_many else streams, *rest, **options)
