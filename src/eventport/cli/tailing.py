"""`eventport tail`: where to begin to follow a store, so that the newest events come first."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from eventport.boundaries import Query
from eventport.errors import InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.projections import find_head
from eventport.protocols import EventStore


_WIDER: Final = 8
"""How many times as far back it looks when it has not found enough."""


class Selection(Struct, frozen=True):
    """Which events are shown: those that match all of it."""

    types: Collection[str] | None = None
    prefix: str | None = None
    stream: str | None = None
    query: Query | None = None


async def find_start(store: EventStore, chosen: Selection, count: int) -> int:
    """Return a position after which the store has this many events of a selection, or all of them.

    It looks back from the end, further and further, so it reads little of a long log; a store
    that accepts only positions of events is read from its beginning.
    """
    head = await find_head(store)
    if not count:
        return head
    distance = 4 * count
    while distance < head:
        try:
            if (found := await _nth_last(store, chosen, count, head - distance)) is not None:
                return found
        except InvalidArgumentError:
            break
        distance *= _WIDER
    return await _nth_last(store, chosen, count, 0) or 0


async def _nth_last(store: EventStore, chosen: Selection, count: int, after: int) -> int | None:
    """Return the position before the last so many events; None if there are fewer after `after`."""
    before: deque[int] = deque([after], maxlen=count + 1)
    found = 0
    async with aclosing(_events(store, chosen, after)) as events:
        async for event in events:
            before.append(event.position)
            found += 1
    return before[0] if found >= count else None


async def _events(
    store: EventStore, chosen: Selection, after: int
) -> AsyncGenerator[RecordedEvent, None]:
    async with aclosing(
        store.iterate_all(
            after=after,
            types=chosen.types,
            prefix=chosen.prefix or chosen.stream,
            query=chosen.query,
        )
    ) as events:
        async for event in events:
            if chosen.stream is None or event.stream == chosen.stream:
                yield event
