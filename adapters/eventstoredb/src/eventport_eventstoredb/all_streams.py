"""What reads show of all streams, in global order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventport.adapter import AllPage
from eventport.events import RecordedEvent

from eventport_eventstoredb.client import Client
from eventport_eventstoredb.messages import AllQuery
from eventport_eventstoredb.streams import PAGE_EVENTS
from eventport_eventstoredb.wire import (
    VISIBLE,
    Stored,
    decode,
    is_foreign,
    prefix_pattern,
    stream_of,
    to_commit_position,
    to_position,
    type_pattern,
)


_SCAN: Final = 500
"""How many events are fetched at least where a part of the filter is ours to apply."""


@dataclass(frozen=True)
class Filter:
    """Which events are wanted. The server applies one filter; the rest of it is ours to do."""

    types: frozenset[str] | None
    prefix: str | None

    @property
    def is_open(self) -> bool:
        """Whether every event is wanted."""
        return self.types is None and self.prefix is None

    def query(self, commit_position: int | None, limit: int) -> AllQuery:
        """Make the read that leaves the least to do."""
        if self.prefix is not None:
            return AllQuery(commit_position, limit, prefix_pattern(self.prefix), by_stream=True)
        if self.types is not None:
            return AllQuery(commit_position, limit, type_pattern(self.types), by_stream=False)
        return AllQuery(commit_position, limit, VISIBLE, by_stream=True)

    def select(self, stored: Stored) -> RecordedEvent | None:
        """Decode an event that is wanted."""
        if is_foreign(stored):
            return None
        if self.prefix and not stream_of(stored).startswith(self.prefix):
            return None
        event = decode(stored)
        return event if self.types is None or event.type in self.types else None


class AllReads:
    """Reads all streams.

    Args:
        client: Asks the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def last_position(self, deadline: float) -> int:
        """Ask for the position of the last event that is not the server's own; 0 for none."""
        query = AllQuery(None, 1, VISIBLE, by_stream=True, backwards=True)
        found, _ = await self._client.read_all(query, deadline)
        return to_position(found[0].commit_position) if found else 0

    async def page(self, after: int, max_count: int, wanted: Filter) -> AllPage:
        """Read a page after a position."""
        deadline = self._client.deadline()
        head = 0
        if not wanted.is_open:
            # A filtered read does not say how far it has come: it has passed what was the end.
            head = await self.last_position(deadline)
            if after >= head:
                return AllPage([], after, head)
        limit = min(max_count + 1, PAGE_EVENTS)  # one of them may be the one at `after`
        if wanted.types is not None:
            limit = max(limit, _SCAN)
        start = to_commit_position(after) if after else None
        found, ended = await self._client.read_all(wanted.query(start, limit), deadline)
        events, position, whole = _select(found, after, max_count, wanted)
        if ended and whole:
            position = max(position, head)
            return AllPage(events, position, position)
        if not head:
            head = await self.last_position(deadline)
        return AllPage(events, position, max(head, position))


def _select(
    found: Sequence[Stored], after: int, max_count: int, wanted: Filter
) -> tuple[list[RecordedEvent], int, bool]:
    """Return the events that are wanted, how far that goes, and whether it is all of them."""
    events: list[RecordedEvent] = []
    position = after
    for stored in found:
        place = to_position(stored.commit_position)
        if place <= after:
            continue
        if len(events) == max_count:
            return events, position, False
        position = place
        event = wanted.select(stored)
        if event is not None:
            events.append(event)
    return events, position, True
