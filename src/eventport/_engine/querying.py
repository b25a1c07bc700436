"""Reading what a query matches, and whether a guard still holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from eventport._engine.commits import Guard, QueryConflict, QueryGuard, Seen, StreamGuard
from eventport._engine.engine import Engine, Queries
from eventport._engine.queries import (
    PAGE_EVENTS,
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    StreamPage,
    StreamQuery,
    check_query,
)
from eventport._engine.stream_reader import require
from eventport._engine.tokens import make_token, read_token
from eventport.boundaries import BoundaryError
from eventport.errors import InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.results import QueryResult
from eventport.validation import check_int, check_optional_int


NOTHING: Final = Seen()


class Querying:
    """`query` of a store, and the look at guards without a commit.

    Args:
        engine: Answers queries itself, if it has the part `Queries`.
        stream_page: Fetches a page of a stream.
        all_page: Fetches a page of all streams.
        match_page: Fetches a page of what matches, from an engine with the part `Queries`.
    """

    def __init__(
        self,
        engine: Engine,
        stream_page: Callable[[StreamQuery], Awaitable[StreamPage]],
        all_page: Callable[[AllQuery], Awaitable[AllPage]],
        match_page: Callable[[MatchQuery], Awaitable[MatchPage]],
    ) -> None:
        self._stream_page = stream_page
        self._all_page = all_page
        self._match_page = match_page if isinstance(engine, Queries) else self._scan

    async def read(self, wanted: MatchQuery) -> QueryResult:
        """Read page by page, up to what the first page saw."""
        page = await self._match_page(wanted)
        head, seen = page.head, page.seen
        events = list(page.events)
        while page.more:
            wanted = wanted.after_page(page, head)
            page = await self._match_page(wanted)
            events += page.events
        cut = wanted.max_count is not None and len(page.events) == wanted.max_count
        position = max(head, wanted.after)
        if cut and not wanted.backwards:
            position = events[-1].position if events else wanted.after
            seen = Seen(min(seen.floor, position), seen.positions)
        positions = seen.positions.union(event.position for event in events)
        above = frozenset(one for one in positions if seen.floor < one <= position)
        return QueryResult(events, position, make_token(Seen(seen.floor, above)))

    async def look(self, guards: Iterable[Guard]) -> None:
        """Raise the conflict of the first guard that does not hold now.

        One look after the other is enough: streams only grow, so what was read before the first
        look and holds in a later one has held all the time in between.
        """
        for guard in guards:
            if isinstance(guard, StreamGuard):
                page = await self._stream_page(StreamQuery(guard.stream, max_count=0))
                require(guard.stream, guard.expected, page.version)
                continue
            count = len(guard.seen.positions) + 1
            wanted = MatchQuery(guard.query, guard.seen.floor, None, count)
            while True:
                found = await self._match_page(wanted)
                for event in found.events:
                    if not guard.seen.covers(event.position):
                        raise BoundaryError(guard.query, event)
                if not found.more:
                    break
                wanted = wanted.after_page(found, found.head)

    async def boundary_error(self, found: QueryConflict) -> BoundaryError:
        """Return the error about an event of which the place is known."""
        version = found.version
        page = await self._stream_page(StreamQuery(found.stream, version, version, 1))
        return BoundaryError(found.query, page.events[0])

    async def _scan(self, wanted: MatchQuery) -> MatchPage:
        """Look through all events, for engines that have no other way."""
        found: deque[RecordedEvent] = deque(maxlen=wanted.max_count if wanted.backwards else None)
        pages = AllQuery(wanted.after, PAGE_EVENTS, query=wanted.query)
        head: int | None = None
        count = wanted.max_count
        while head is None or pages.after < min(head, wanted.until or head):
            page = await self._all_page(pages)
            head = page.head if head is None else head
            found += (
                event for event in page.events if event.position <= min(head, wanted.until or head)
            )
            pages = pages.resumed(max(pages.after, page.position))
            if count is not None and not wanted.backwards and len(found) >= count:
                break
        events: Sequence[RecordedEvent] = list(found)
        events = events[::-1] if wanted.backwards else events[:count]
        return MatchPage(events, head, Seen(head))


def check_match_query(
    query: object, after: object, max_count: object, *, backwards: bool
) -> MatchQuery:
    """Check what a caller asks for."""
    return MatchQuery(
        check_query(query),
        check_int("after", after),
        None,
        check_optional_int("max_count", max_count),
        backwards,
    )


def check_guard(unless: object, since: object) -> tuple[QueryGuard, ...]:
    """Return the guard of a conditional append; none if there is no condition."""
    if unless is None:
        if since is not None:
            message = "since is the token of a query: pass the query as `unless`, too"
            raise InvalidArgumentError(message)
        return ()
    seen = NOTHING if since is None else read_token(since)
    return (QueryGuard(check_query(unless), seen),)
