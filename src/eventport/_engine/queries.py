"""Reads as values: what an engine is asked for, and the pages that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from eventport._engine.commits import Seen
from eventport.boundaries import Query
from eventport.errors import InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.validation import (
    MAX_INT,
    check_int,
    check_prefix,
    check_stream,
    check_types,
    show,
)


PAGE_EVENTS: Final = 500
"""How many events `iterate`, `aggregate` and subscriptions fetch at once."""


class StreamQuery(Struct, frozen=True):
    """Events of one stream, by a range of versions."""

    stream: str
    first: int = 1
    """The lowest version wanted, inclusive, in both directions."""
    last: int = MAX_INT
    """The highest version wanted, inclusive, in both directions."""
    max_count: int | None = None
    """At most this many events; 0 asks for the head alone, None for all."""
    backwards: bool = False
    """Newest first; it does not change the range."""

    @property
    def is_whole(self) -> bool:
        """Whether it asks for the whole stream, from its first event on."""
        return (self.first, self.last, self.max_count) == (1, MAX_INT, None) and not self.backwards

    def clip(self, head: int) -> range:
        """Return the versions to give of a stream whose head is `head`, in reading order."""
        low, high = self.first, min(self.last, head)
        if self.max_count is not None:
            if self.backwards:
                low = max(low, high - self.max_count + 1)
            else:
                high = min(high, low + self.max_count - 1)
        return range(high, low - 1, -1) if self.backwards else range(low, high + 1)

    def after_page(self, events: Sequence[RecordedEvent], head: int) -> StreamQuery | None:
        """Return what is left to ask for once these events were read; None if nothing is.

        Args:
            events: A page of this query, with at least one event.
            head: The stream's head when the first page was read.
        """
        first, last, end = self.first, min(self.last, head), events[-1].version
        if self.backwards:
            last = end - 1
        else:
            first = end + 1
        left = None if self.max_count is None else self.max_count - len(events)
        if first > last or left == 0:
            return None
        return StreamQuery(self.stream, first, last, left, self.backwards)

    @property
    def is_empty(self) -> bool:
        """Whether no event can match it."""
        return self.first > self.last or self.max_count == 0


class AllQuery(Struct, frozen=True):
    """Events of all streams, in global order, after a position."""

    after: int = 0
    """Only events after this position."""
    max_count: int = 1000
    """At most this many events; at least 1."""
    types: frozenset[str] | None = None
    """Only events of these types; None for all."""
    prefix: str | None = None
    """Only events of streams whose names start with this; None for all."""
    stream: str | None = None
    """Only events of the stream of this name; None for all."""
    query: Query | None = None
    """Only events that match this; None for all."""

    def resumed(self, position: int, max_count: int | None = None) -> AllQuery:
        """Return the same query after another position, and perhaps for fewer events."""
        count = self.max_count if max_count is None else max_count
        return AllQuery(position, count, self.types, self.prefix, self.stream, self.query)

    @property
    def is_filtered(self) -> bool:
        """Whether some events are to be left out."""
        return (self.types, self.prefix, self.stream, self.query) != (None, None, None, None)

    def matches(self, stream: str, type_: str, tags: AbstractSet[str]) -> bool:
        """Return whether an event of this stream and type, with these tags, is wanted."""
        return (
            (self.types is None or type_ in self.types)
            and (self.prefix is None or stream.startswith(self.prefix))
            and (self.stream is None or stream == self.stream)
            and (self.query is None or self.query.covers(type_, tags))
        )


class MatchQuery(Struct, frozen=True):
    """Events of all streams that match a query, as of now."""

    query: Query
    after: int = 0
    """Only events after this position."""
    until: int | None = None
    """Only events up to this position, inclusive; None for all that can be seen."""
    max_count: int | None = None
    """At most this many events; None for all."""
    backwards: bool = False
    """Newest first; it does not change the range."""

    def after_page(self, page: MatchPage, until: int) -> MatchQuery:
        """Return what is left to ask for once a page of this query has been read."""
        last = page.events[-1].position
        left = None if self.max_count is None else self.max_count - len(page.events)
        if self.backwards:
            return MatchQuery(self.query, self.after, last - 1, left, backwards=True)
        return MatchQuery(self.query, last, until, left)


class StreamPage(Struct, frozen=True):
    """Events of one stream, and its true head, both from one moment."""

    events: Sequence[RecordedEvent]
    """In the order asked for.

    They may be fewer than asked for, to bound memory, but at least one if there is any.
    """
    version: int
    """The stream's head, whatever the range; 0 if the stream does not exist."""


class AllPage(Struct, frozen=True):
    """Events of all streams in global order, after the position asked for."""

    events: Sequence[RecordedEvent]
    """They may be fewer than asked for, if `position` has moved on."""
    position: int
    """Last position scanned, whether or not anything matched."""
    head: int
    """The stable frontier: no event at or below it can still appear."""

    def up_to(self, head: int) -> Sequence[RecordedEvent]:
        """Leave out what was committed after a read had fixed its end."""
        if not self.events or self.events[-1].position <= head:
            return self.events
        return [event for event in self.events if event.position <= head]


class MatchPage(Struct, frozen=True):
    """Events that match a query, and what a reader of them has seen, both from one moment."""

    events: Sequence[RecordedEvent]
    """In the order asked for. Fewer than asked for, if there are `more`."""
    head: int
    """The position of the newest event that could be seen, or above it, if there is a gap."""
    seen: Seen
    """What a reader has seen that gets all events of the query up to the head.

    That is regardless of range and count. The floor is the stable frontier, and the positions
    are those of all matching events above it.
    """
    more: bool = False
    """Whether the page was cut to bound memory, and has at least one event."""


def check_all_query(
    after: object,
    types: object,
    prefix: object,
    query: object,
    max_count: object = PAGE_EVENTS,
    *,
    stream: object = None,
) -> AllQuery:
    """Check what a caller asks for."""
    return AllQuery(
        check_int("after", after),
        check_int("max_count", max_count),
        check_types(types),
        check_prefix(prefix),
        None if stream is None else check_stream(stream),
        None if query is None else check_query(query),
    )


def check_query(query: object) -> Query:
    """Return a query, or raise `InvalidArgumentTypeError`."""
    if not isinstance(query, Query):
        message = f"a query is Query.of(Match(...)) or Query.all(), not {show(query)}"
        raise InvalidArgumentTypeError(message)
    return query
