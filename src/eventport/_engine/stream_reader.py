"""Reading one stream, the same for stores and sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from eventport._engine.queries import PAGE_EVENTS, StreamPage, StreamQuery
from eventport.errors import ConcurrencyError
from eventport.events import RecordedEvent
from eventport.expectations import ANY, Expectation, holds
from eventport.results import AggregateResult, ReadResult
from eventport.validation import (
    MAX_INT,
    check_expectation,
    check_initial,
    check_int,
    check_optional_int,
    check_plain_function,
    check_stream,
)


S = TypeVar("S")


class StreamReader(ABC):
    """`read`, `iterate` and `aggregate`, on top of pages of one stream."""

    @abstractmethod
    def _page(self, query: StreamQuery) -> Awaitable[StreamPage]:
        """Fetch a page, as `Engine.read_stream` does."""

    def _meet(self, stream: str, expected: Expectation, actual: int) -> None:
        """Raise `ConcurrencyError` unless an expectation holds; a session remembers it, too."""
        require(stream, expected, actual)

    async def read(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        max_count: int | None = None,
        backwards: bool = False,
        expected: Expectation = ANY,
    ) -> ReadResult:
        """See `Streams.read`."""
        query = _query(stream, from_version, to_version, backwards=backwards, max_count=max_count)
        expected = check_expectation(expected)
        page = await self._page(query)
        self._meet(query.stream, expected, page.version)
        events, version = list(page.events), page.version
        while page.events and (rest := query.after_page(page.events, version)) is not None:
            query = rest
            page = await self._page(query)
            events += page.events
        return ReadResult(events, version)

    async def iterate(
        self,
        stream: str,
        *,
        from_version: int = 1,
        to_version: int | None = None,
        backwards: bool = False,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `Streams.iterate`."""
        query = _query(stream, from_version, to_version, backwards=backwards)
        async with aclosing(self._pages(query)) as pages:
            async for page in pages:
                for event in page.events:
                    yield event

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        *,
        to_version: int | None = None,
        expected: Expectation = ANY,
    ) -> AggregateResult[S]:
        """See `Streams.aggregate`."""
        expected = check_expectation(expected)
        query = _query(stream, 1, to_version)
        check_plain_function("evolve", evolve)
        state, head = check_initial(initial)(), None
        async with aclosing(self._pages(query)) as pages:
            async for page in pages:
                if head is None:
                    head = page.version
                    self._meet(query.stream, expected, head)
                for event in page.events:
                    state = evolve(state, event)
        version = head or 0
        return AggregateResult(state, min(version, query.last), version > 0)

    async def _pages(self, query: StreamQuery) -> AsyncGenerator[StreamPage, None]:
        """Yield the pages of a range, at least one, up to the head that the first page saw."""
        rest: StreamQuery | None = query
        head: int | None = None
        while rest is not None:
            page = await self._page(
                StreamQuery(rest.stream, rest.first, rest.last, PAGE_EVENTS, rest.backwards)
            )
            head = page.version if head is None else head
            yield page
            rest = rest.after_page(page.events, head) if page.events else None


def require(stream: str, expected: Expectation, actual: int) -> None:
    """Raise `ConcurrencyError` unless an expectation holds."""
    if not holds(expected, actual):
        raise ConcurrencyError(stream, expected, actual)


def _query(
    stream: str,
    from_version: object,
    to_version: object,
    *,
    backwards: bool = False,
    max_count: object = None,
) -> StreamQuery:
    """Check what a caller asks for."""
    stream = check_stream(stream)
    first = check_int("from_version", from_version, least=1)
    last = check_optional_int("to_version", to_version)
    count = check_optional_int("max_count", max_count)
    return StreamQuery(stream, first, MAX_INT if last is None else last, count, backwards)
