"""Reading all streams, on top of pages of the global order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from eventport._engine.queries import AllPage, AllQuery
from eventport.events import RecordedEvent
from eventport.results import AllResult


async def read_all(fetch: Callable[[AllQuery], Awaitable[AllPage]], query: AllQuery) -> AllResult:
    """Read as many events as asked for, up to the head that the first page saw."""
    events: list[RecordedEvent] = []
    position, count = query.after, query.max_count
    head: int | None = None
    while len(events) < count and (head is None or position < head):
        page = await fetch(query.resumed(position, count - len(events)))
        head = page.head if head is None else head
        events += page.up_to(head)
        position = max(position, min(page.position, head))
    return AllResult(events, position)


async def iterate_all(
    fetch: Callable[[AllQuery], Awaitable[AllPage]], query: AllQuery
) -> AsyncGenerator[RecordedEvent, None]:
    """Yield all events, up to the head that the first page saw."""
    head: int | None = None
    while head is None or query.after < head:
        page = await fetch(query)
        head = page.head if head is None else head
        for event in page.up_to(head):
            yield event
        query = query.resumed(max(query.after, page.position))
