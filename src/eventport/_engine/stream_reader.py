"""Reading one stream, the same for stores and sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

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
    check_streams,
)


S = TypeVar("S")

_MANY: Final = 100
"""How many streams an engine is asked for at once."""

_MANY_HEADS: Final = 1_000
"""How many heads an engine is asked for at once."""


class StreamReader(ABC):
    """`read`, `iterate` and `aggregate`, on top of pages of one stream."""

    @abstractmethod
    def _page(self, query: StreamQuery) -> Awaitable[StreamPage]:
        """Fetch a page, as `Engine.read_stream` does."""

    @abstractmethod
    async def _page_many(self, streams: Sequence[str]) -> Mapping[str, StreamPage]:
        """Fetch first pages of some or all of these streams, as `ReadsMany.read_streams` does."""

    @abstractmethod
    async def _heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Fetch heads, as `ReadsHeads.read_heads` does."""

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

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        """See `Streams.read_many`."""
        names = check_streams(streams)
        events: dict[str, list[RecordedEvent]] = {name: [] for name in names}
        versions = dict.fromkeys(names, 0)
        async with aclosing(self._pages_of(names)) as pages:
            async for name, page in pages:
                events[name] += page.events
                versions[name] = page.version
        return {name: ReadResult(events[name], versions[name]) for name in names}

    async def aggregate_many(
        self,
        streams: Iterable[str],
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
    ) -> dict[str, AggregateResult[S]]:
        """See `Streams.aggregate_many`."""
        names = check_streams(streams)
        check_plain_function("evolve", evolve)
        make = check_initial(initial)
        states = {name: make() for name in names}
        versions = dict.fromkeys(names, 0)
        async with aclosing(self._pages_of(names)) as pages:
            async for name, page in pages:
                versions[name] = page.version
                for event in page.events:
                    states[name] = evolve(states[name], event)
        return {
            name: AggregateResult(states[name], version, version > 0)
            for name, version in versions.items()
        }

    async def heads(self, streams: Iterable[str]) -> dict[str, int]:
        """See `HeadReader.heads`."""
        names = check_streams(streams)
        heads: dict[str, int] = {}
        for start in range(0, len(names), _MANY_HEADS):
            found = await self._heads(names[start : start + _MANY_HEADS])
            heads.update(found)
        return {name: heads[name] for name in names}

    async def _pages_of(self, names: list[str]) -> AsyncGenerator[tuple[str, StreamPage], None]:
        """Yield the pages of whole streams, all pages of a stream with the same head."""
        for start in range(0, len(names), _MANY):
            left = names[start : start + _MANY]
            while left:
                first_pages = await self._page_many(left)
                for name, first in first_pages.items():
                    yield name, first
                    async for page in self._rest(name, first):
                        yield name, page
                left = [name for name in left if name not in first_pages]

    async def _rest(self, name: str, page: StreamPage) -> AsyncGenerator[StreamPage, None]:
        """Yield the pages of a stream after its first one, up to the head that that one saw."""
        query, head = StreamQuery(name), page.version
        while page.events and (rest := query.after_page(page.events, head)) is not None:
            query = rest
            page = await self._page(query)
            yield StreamPage(page.events, head)

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
