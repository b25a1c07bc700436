"""Reading one stream, the same for stores and sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import ClassVar, TypeVar

from eventport.commits import StreamPage
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

    page_size: ClassVar[int] = 500
    """How many events `iterate` and `aggregate` fetch at once."""

    @abstractmethod
    async def read_page(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        """Fetch the events of a stream from version `first` to `last`, and its true head.

        It may return fewer events than there are, to bound memory, but at least one if there is
        any and `max_count` is not 0.
        """

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
        stream = check_stream(stream)
        first, last = _check_range(from_version, to_version)
        max_count = check_optional_int("max_count", max_count)
        expected = check_expectation(expected)
        page = await self.read_page(stream, first, last, max_count, backwards=backwards)
        require(stream, expected, page.version)
        events, version = list(page.events), page.version
        while page.events and (max_count is None or len(events) < max_count):
            first, last = _rest(first, min(last, version), page, backwards=backwards)
            if first > last:
                break
            left = None if max_count is None else max_count - len(events)
            page = await self.read_page(stream, first, last, left, backwards=backwards)
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
        stream = check_stream(stream)
        first, last = _check_range(from_version, to_version)
        async with aclosing(self._pages(stream, first, last, backwards=backwards)) as pages:
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
        stream = check_stream(stream)
        expected = check_expectation(expected)
        first, last = _check_range(1, to_version)
        check_plain_function("evolve", evolve)
        state, head = check_initial(initial)(), None
        async with aclosing(self._pages(stream, first, last, backwards=False)) as pages:
            async for page in pages:
                if head is None:
                    head = page.version
                    require(stream, expected, head)
                for event in page.events:
                    state = evolve(state, event)
        version = head or 0
        return AggregateResult(state, min(version, last), version > 0)

    async def _pages(
        self, stream: str, first: int, last: int, *, backwards: bool
    ) -> AsyncGenerator[StreamPage, None]:
        """Give the pages of a range, at least one, up to the head that the first page saw."""
        page = await self.read_page(stream, first, last, self.page_size, backwards=backwards)
        last = min(last, page.version)
        while True:
            yield page
            first, last = _rest(first, last, page, backwards=backwards)
            if not page.events or first > last:
                return
            page = await self.read_page(stream, first, last, self.page_size, backwards=backwards)


def require(stream: str, expected: Expectation, actual: int) -> None:
    """Raise `ConcurrencyError` unless an expectation holds."""
    if not holds(expected, actual):
        raise ConcurrencyError(stream, expected, actual)


def _check_range(from_version: object, to_version: object) -> tuple[int, int]:
    first = check_int("from_version", from_version, least=1)
    last = check_optional_int("to_version", to_version)
    return first, MAX_INT if last is None else last


def _rest(first: int, last: int, page: StreamPage, *, backwards: bool) -> tuple[int, int]:
    """Narrow a range to what lies behind a page of it."""
    if not page.events:
        return first, last
    end = page.events[-1].version
    return (first, end - 1) if backwards else (end + 1, last)
