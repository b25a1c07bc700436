"""Reading all streams, on top of pages of the global order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from eventport._engine.queries import AllPage, AllQuery
from eventport._engine.querying import check_query
from eventport._engine.stream_reader import PAGE_EVENTS
from eventport.events import RecordedEvent
from eventport.results import AllResult
from eventport.validation import check_int, check_prefix, check_stream, check_types


async def read_all(fetch: Callable[[AllQuery], Awaitable[AllPage]], query: AllQuery) -> AllResult:
    """Read as many events as asked for, up to the head that the first page saw."""
    events: list[RecordedEvent] = []
    position, count = query.after, query.max_count
    head: int | None = None
    while len(events) < count and (head is None or position < head):
        page = await fetch(query.resumed(position, count - len(events)))
        head = page.head if head is None else head
        events += _up_to(head, page.events)
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
        for event in _up_to(head, page.events):
            yield event
        query = query.resumed(max(query.after, page.position))


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


def _up_to(head: int, events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
    """Leave out what was committed after a read had fixed its end."""
    if not events or events[-1].position <= head:
        return events
    return [event for event in events if event.position <= head]
