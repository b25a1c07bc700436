"""Stores whose calls make spans and metrics, and whose events carry the trace."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any, Final, TypeVar, cast

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from eventport.boundaries import Query
from eventport.catalogue import category_of
from eventport.context.appending import AppendingStore, AppendingStreams
from eventport.errors import ConcurrencyError
from eventport.events import NewEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AggregateResult, AllResult, AppendResult, QueryResult, ReadResult
from eventport.telemetry.instruments import (
    ERROR,
    SCOPE,
    appended,
    conflicts,
    durations,
    sizes,
    tracer,
)
from eventport.telemetry.outcomes import note_error


S = TypeVar("S")
St = TypeVar("St", bound=Streams)
Store = TypeVar("Store", bound=EventStore)

_STREAM: Final = "eventport.stream"
_EVENTS: Final = "eventport.events"
_VERSION: Final = "eventport.version"
_POSITION: Final = "eventport.position"


def with_telemetry(store: Store) -> Store:
    """Return a store whose calls make spans and metrics of OpenTelemetry.

    Each event that it appends carries the trace in its metadata (``traceparent``), where
    `handling` finds it. Copies and the streams of the toolkit are appended as they are. Appends,
    reads, queries, folds and sessions make spans; iterators and subscriptions do not: a handler
    does, by `handling`. All other methods are those of the store. It stays open as long as the
    store, and closes it if it is closed.

    Spans hold the names of streams, and no data of events.

    Args:
        store: Any event store.
    """
    return cast("Store", _ObservedStore(store, type(store).__name__))


class _ObservedStreams(AppendingStreams[St]):
    def __init__(self, streams: St, store: str) -> None:
        super().__init__(streams)
        self._store = store

    def _metadata_to_add(self) -> dict[str, Any]:
        carrier: dict[str, Any] = {}
        propagate.inject(carrier)
        return carrier

    def _count(self, events: int) -> None:
        """Count events that were committed at once."""
        attributes = {"eventport.store": self._store}
        appended.add(events, attributes)
        if events:
            sizes.record(events, attributes)

    @contextmanager
    def _operation(self, name: str, stream: str | None = None) -> Generator[Span]:
        """Measure a call. A wrong name of a stream is left to the store to refuse."""
        common = {
            "db.system.name": SCOPE,
            "db.operation.name": name,
            "eventport.store": self._store,
        }
        attributes: dict[str, AttributeValue] = {**common}
        title = name
        if isinstance(cast("object", stream), str) and stream:
            attributes |= {_STREAM: stream, "db.collection.name": category_of(stream)}
            title = f"{name} {category_of(stream)}"
        start = perf_counter()
        with tracer.start_as_current_span(
            title,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as exc:
                if isinstance(exc, ConcurrencyError):
                    conflicts.add(1, common)
                common[ERROR] = note_error(span, exc)
                raise
            finally:
                durations.record(perf_counter() - start, common)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """See `Streams.append`."""
        with self._operation("append", stream) as span:
            changed = self._changed(stream, events)
            result = await self._inner.append(
                stream, changed, expected=expected, unless=unless, since=since
            )
            count = len(changed) if isinstance(changed, list) else 0
            span.set_attributes({_EVENTS: count, _VERSION: result.version})
            if result.position is not None:
                span.set_attribute(_POSITION, result.position)
            if not result.deduplicated:
                self._count(count)
            return result

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
        with self._operation("read", stream) as span:
            result = await self._inner.read(
                stream,
                from_version=from_version,
                to_version=to_version,
                max_count=max_count,
                backwards=backwards,
                expected=expected,
            )
            span.set_attributes({_EVENTS: len(result.events), _VERSION: result.version})
            return result

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """See `Streams.query`."""
        with self._operation("query") as span:
            result = await self._inner.query(
                query, after=after, max_count=max_count, backwards=backwards
            )
            span.set_attribute(_EVENTS, len(result.events))
            return result

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, Any], S],
        initial: Callable[[], S],
        *,
        to_version: int | None = None,
        expected: Expectation = ANY,
    ) -> AggregateResult[S]:
        """See `Streams.aggregate`."""
        with self._operation("aggregate", stream) as span:
            result = await self._inner.aggregate(
                stream, evolve, initial, to_version=to_version, expected=expected
            )
            span.set_attribute(_VERSION, result.version)
            return result

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        """See `Streams.read_many`."""
        with self._operation("read_many") as span:
            results = await self._inner.read_many(streams)
            span.set_attribute("eventport.streams", len(results))
            return results

    async def aggregate_many(
        self, streams: Iterable[str], evolve: Callable[[S, Any], S], initial: Callable[[], S]
    ) -> dict[str, AggregateResult[S]]:
        """See `Streams.aggregate_many`."""
        with self._operation("aggregate_many") as span:
            results = await self._inner.aggregate_many(streams, evolve, initial)
            span.set_attribute("eventport.streams", len(results))
            return results


class _ObservedSession(_ObservedStreams[Session]):
    def __init__(self, session: Session, store: str) -> None:
        super().__init__(session, store)
        self.events = 0

    def _count(self, events: int) -> None:
        self.events += events  # until the commit, nothing is appended


class _ObservedStore(_ObservedStreams[EventStore], AppendingStore):
    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Session]:
        with self._operation("session") as span:
            async with self._inner.session() as inner:
                session = _ObservedSession(inner, self._store)
                yield cast("Session", session)
            self._count(session.events)
            span.set_attribute(_EVENTS, session.events)
            if inner.position is not None:
                span.set_attribute(_POSITION, inner.position)

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AllResult:
        """See `EventStore.read_all`."""
        with self._operation("read_all") as span:
            result = await self._inner.read_all(
                after=after, max_count=max_count, types=types, prefix=prefix, query=query
            )
            span.set_attributes({_EVENTS: len(result.events), _POSITION: result.position})
            return result

    def __repr__(self) -> str:
        return f"with_telemetry({self._inner!r})"
