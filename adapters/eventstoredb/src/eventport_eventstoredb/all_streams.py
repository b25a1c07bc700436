"""What reads show of all streams, in global order."""

from __future__ import annotations

from typing import Final

from eventport.adapter import AllPage, AllQuery
from eventport.errors import InvalidArgumentError
from eventport.events import RecordedEvent

from eventport_eventstoredb.client import Client
from eventport_eventstoredb.messages import AllRead
from eventport_eventstoredb.streams import PAGE_EVENTS
from eventport_eventstoredb.wire import (
    VISIBLE,
    Stored,
    decode,
    is_foreign,
    prefix_pattern,
    stream_pattern,
    to_commit_position,
    to_position,
    type_pattern,
)


_SCAN: Final = 500
"""How many events are fetched at least where a part of the filter is ours to apply."""


class AllReads:
    """Reads all streams.

    Args:
        client: Asks the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def last_position(self) -> int:
        """Ask for the position of the last event that is not the server's own; 0 for none."""
        found: list[Stored] = []
        last = AllRead(None, 1, VISIBLE, by_stream=True, backwards=True)
        await self._client.read_all(last, found.append)
        return to_position(found[0].commit_position) if found else 0

    async def page(self, query: AllQuery) -> AllPage:
        """Read a page after a position."""
        head = 0
        if query.is_filtered:
            # A filtered read does not return how far it has scanned: it has passed this head.
            head = await self.last_position()
            if query.after >= head:
                return AllPage([], query.after, head)
        found = _Selection(query)
        try:
            ended = await self._after(query, found)
        except InvalidArgumentError:
            head = await self.last_position()
            if query.after <= head:
                raise
            return AllPage([], query.after, head)  # some servers refuse what is beyond the head
        position = found.position
        if ended and found.is_whole and (head or found.is_anchored):
            position = max(position, head)
            return AllPage(found.events, position, position)
        head = head or await self.last_position()
        if position > query.after:
            head = max(head, position)
        return AllPage(found.events, position, head)

    async def _after(self, query: AllQuery, found: _Selection) -> bool:
        """Read what follows a position, and return whether there is no more.

        Servers accept only positions at which an event is. The one before an event is none, but
        then the event itself is where to begin.
        """
        if not query.after:
            return await self._client.read_all(_read(query, None), found.take)
        start = to_commit_position(query.after)
        try:
            return await self._client.read_all(_read(query, start), found.take)
        except InvalidArgumentError as exc:
            try:
                return await self._client.read_all(_read(query, start + 1), found.take)
            except InvalidArgumentError:
                raise exc from None


class _Selection:
    """The events that are wanted, as far as they fit on a page.

    Args:
        query: What is wanted.
    """

    def __init__(self, query: AllQuery) -> None:
        self._query = query
        self.events: list[RecordedEvent] = []
        self.position = query.after
        """The last position scanned."""
        self.is_whole = True
        """Whether all that was read has been scanned."""
        self.is_anchored = not query.after
        """Whether an event was read that is not before the position asked for."""

    def take(self, stored: Stored) -> None:
        """Add an event, if it is wanted; decode nothing that does not fit."""
        place = to_position(stored.commit_position)
        self.is_anchored = self.is_anchored or place >= self._query.after
        if place <= self._query.after or not self.is_whole:
            return
        if len(self.events) == self._query.max_count:
            self.is_whole = False
            return
        self.position = place
        if is_foreign(stored):
            return
        event = decode(stored)
        if self._query.matches(event.stream, event.type, event.tags):
            self.events.append(event)


def _read(query: AllQuery, commit_position: int | None) -> AllRead:
    """Make the read that leaves the least to do: the server applies one filter."""
    limit = min(query.max_count + 1, PAGE_EVENTS)  # one of them may be the one at `after`
    if query.types is not None or query.query is not None:
        limit = max(limit, _SCAN)
    if query.stream is not None:
        return AllRead(commit_position, limit, stream_pattern(query.stream), by_stream=True)
    if query.prefix is not None:
        return AllRead(commit_position, limit, prefix_pattern(query.prefix), by_stream=True)
    if query.types is not None:
        return AllRead(commit_position, limit, type_pattern(query.types), by_stream=False)
    return AllRead(commit_position, limit, VISIBLE, by_stream=True)
