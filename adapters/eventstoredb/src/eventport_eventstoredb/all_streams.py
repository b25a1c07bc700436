"""What reads show of all streams, in global order."""

from __future__ import annotations

from collections.abc import Sequence
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
        found, _ = await self._client.read_all(
            AllRead(None, 1, VISIBLE, by_stream=True, backwards=True)
        )
        return to_position(found[0].commit_position) if found else 0

    async def page(self, query: AllQuery) -> AllPage:
        """Read a page after a position."""
        head = 0
        if query.is_filtered:
            # A filtered read does not return how far it has scanned: it has passed this head.
            head = await self.last_position()
            if query.after >= head:
                return AllPage([], query.after, head)
        found, ended = await self._after(query)
        events, position, whole = _select(found, query)
        if ended and whole:
            position = max(position, head)
            return AllPage(events, position, position)
        if not head:
            head = await self.last_position()
        return AllPage(events, position, max(head, position))

    async def _after(self, query: AllQuery) -> tuple[list[Stored], bool]:
        """Read what follows a position, which may come with the event that is there.

        Servers take only positions at which an event is. The one before an event is none, but
        then the event itself is where to begin.
        """
        if not query.after:
            return await self._client.read_all(_read(query, None))
        start = to_commit_position(query.after)
        try:
            return await self._client.read_all(_read(query, start))
        except InvalidArgumentError as exc:
            try:
                return await self._client.read_all(_read(query, start + 1))
            except InvalidArgumentError:
                raise exc from None


def _read(query: AllQuery, commit_position: int | None) -> AllRead:
    """Make the read that leaves the least to do: the server applies one filter."""
    limit = min(query.max_count + 1, PAGE_EVENTS)  # one of them may be the one at `after`
    if query.types is not None:
        limit = max(limit, _SCAN)
    if query.prefix is not None:
        return AllRead(commit_position, limit, prefix_pattern(query.prefix), by_stream=True)
    if query.types is not None:
        return AllRead(commit_position, limit, type_pattern(query.types), by_stream=False)
    return AllRead(commit_position, limit, VISIBLE, by_stream=True)


def _select(found: Sequence[Stored], query: AllQuery) -> tuple[list[RecordedEvent], int, bool]:
    """Return the events that are wanted, how far that goes, and whether it is all of them."""
    events: list[RecordedEvent] = []
    position = query.after
    for stored in found:
        place = to_position(stored.commit_position)
        if place <= query.after:
            continue
        if len(events) == query.max_count:
            return events, position, False
        position = place
        if is_foreign(stored):
            continue
        event = decode(stored)
        if query.matches(event.stream, event.type):
            events.append(event)
    return events, position, True
