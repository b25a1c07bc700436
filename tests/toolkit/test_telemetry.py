"""Spans and metrics of stores and handlers, as the kit of OpenTelemetry collects them."""

from __future__ import annotations

import json
import re

from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from eventport import ConcurrencyError, EventStore, InvalidEventError, NewEvent, Query
from eventport.context import with_context
from eventport.telemetry import handling, with_telemetry

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.anyio

BOARD: Final = Path(__file__).parents[2] / "examples/telemetry/grafana.json"
EXPORTER: Final = InMemorySpanExporter()
READER: Final = InMemoryMetricReader()


@pytest.fixture(scope="module", autouse=True)
def kit() -> None:
    """Collect all spans and metrics of this process; the kit can be set once only."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([READER]))


@pytest.fixture
async def store() -> AsyncGenerator[EventStore]:
    """Open a store that is observed."""
    async with with_telemetry(MemoryEventStore()) as store:
        EXPORTER.clear()
        yield store


def spans() -> list[ReadableSpan]:
    """Return the spans that have ended since the last call."""
    found = list(EXPORTER.get_finished_spans())
    EXPORTER.clear()
    return found


def points(name: str) -> Generator[Any]:
    """Yield the points of a metric since the process began."""
    data = READER.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    yield from metric.data.data_points


def total(name: str, **attributes: str) -> float:
    """Return the sum of a counter, over all points that have the attributes."""
    wanted = attributes.items()
    found = [point.value for point in points(name) if wanted <= dict(point.attributes).items()]
    return float(sum(found))


async def test_an_append_makes_a_span_with_its_place_and_no_data(store: EventStore) -> None:
    before = total("eventport.append.events")
    await store.append("order-1", [NewEvent("Placed", {"card": "secret"}), NewEvent("Paid", {})])
    (span,) = spans()
    assert span.name == "append order"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "db.system.name": "eventport",
        "db.operation.name": "append",
        "db.collection.name": "order",
        "eventport.store": "MemoryEventStore",
        "eventport.stream": "order-1",
        "eventport.events": 2,
        "eventport.version": 2,
        "eventport.position": 2,
    }
    assert "secret" not in span.to_json()
    assert total("eventport.append.events") == before + 2


async def test_a_retry_is_not_counted_twice(store: EventStore) -> None:
    before = total("eventport.append.events")
    event = NewEvent("Placed", {})
    for _ in range(2):
        await store.append("order-1", [event], expected="no_stream")
    assert total("eventport.append.events") == before + 1


async def test_each_way_to_read_makes_a_span(store: EventStore) -> None:
    await store.append("order-1", iter([NewEvent("Placed", {})]))
    spans()
    await store.read("order-1")
    await store.aggregate("order-1", lambda state, _event: state, int)
    await store.query(Query.all())
    await store.read_all()
    await store.read_many(["order-1"])
    await store.aggregate_many(["order-1"], lambda state, _event: state, int)
    names = ["read order", "aggregate order", "query", "read_all", "read_many", "aggregate_many"]
    assert [span.name for span in spans()] == names


async def test_a_conflict_is_counted_and_is_no_error(store: EventStore) -> None:
    before = total("eventport.conflicts", **{"db.operation.name": "append"})
    with pytest.raises(ConcurrencyError):
        await store.append("order-1", [NewEvent("Placed", {})], expected=7)
    (span,) = spans()
    assert (span.attributes or {})["error.type"] == "ConcurrencyError"
    assert span.status.status_code is StatusCode.UNSET
    assert total("eventport.conflicts", **{"db.operation.name": "append"}) == before + 1


async def test_an_error_is_named_by_its_class_alone(store: EventStore) -> None:
    with pytest.raises(InvalidEventError):
        await store.append("order-1", [NewEvent("Placed", {"card": object()})])
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "InvalidEventError"
    assert not span.events


async def test_wrong_arguments_are_left_to_the_store(store: EventStore) -> None:
    wrong: Any = 7
    for call in (store.read(wrong), store.append(wrong, []), store.append("a", wrong)):
        with pytest.raises((TypeError, ValueError)):
            await call
    assert len(spans()) == 3


async def test_a_session_counts_what_it_commits(store: EventStore) -> None:
    before = total("eventport.append.events")
    async with store.session() as session:
        await session.append("order-1", [NewEvent("Placed", {})])
        await session.append("stock-1", [NewEvent("Reserved", {})])
        assert total("eventport.append.events") == before
    assert total("eventport.append.events") == before + 2
    first, second, whole = spans()
    assert [first.name, second.name, whole.name] == ["append order", "append stock", "session"]
    assert first.parent is not None
    assert whole.context is not None
    assert first.parent.span_id == whole.context.span_id
    assert (whole.attributes or {})["eventport.events"] == 2


async def test_the_sizes_of_commits_are_measured(store: EventStore) -> None:
    def measured() -> tuple[int, float]:
        found = list(points("eventport.append.size"))
        return sum(point.count for point in found), sum(point.sum for point in found)

    commits, events = measured()
    await store.append("order-1", [NewEvent("Placed", {}), NewEvent("Paid", {})])
    await store.append("order-1", [])
    async with store.session() as session:
        await session.append("order-1", [NewEvent("Placed", {})])
        await session.append("stock-1", [NewEvent("Reserved", {}), NewEvent("Sold", {})])
    assert measured() == (commits + 2, events + 5)


async def test_a_session_that_fails_counts_nothing(store: EventStore) -> None:
    before = total("eventport.append.events")
    with suppress(ZeroDivisionError):
        async with store.session() as session:
            await session.append("order-1", [NewEvent("Placed", {})])
            raise ZeroDivisionError
    assert total("eventport.append.events") == before


async def test_a_handler_belongs_to_the_trace_of_the_append(store: EventStore) -> None:
    with trace.get_tracer("test").start_as_current_span("request"):
        await store.append("order-1", [NewEvent("Placed", {})])
    (event,) = (await store.read("order-1")).events
    spans()
    with handling(event, "billing"):
        await store.append("invoice-1", [NewEvent("Sent", {})])
    (invoice,) = (await store.read("invoice-1")).events
    inner, outer, _ = spans()
    assert outer.name == "handle billing"
    assert outer.kind is SpanKind.CONSUMER
    assert inner.context is not None
    assert outer.context is not None
    trace_id = event.metadata["traceparent"].split("-")[1]
    assert f"{outer.context.trace_id:032x}" == trace_id
    assert inner.context.trace_id == outer.context.trace_id
    assert invoice.metadata["traceparent"].split("-")[1] == trace_id
    (delay,) = points("eventport.process.delay")
    assert dict(delay.attributes)["messaging.consumer.group.name"] == "billing"
    assert delay.count == 1
    assert delay.min >= 0


async def test_a_handler_that_fails_makes_an_error(store: EventStore) -> None:
    await store.append("order-1", [NewEvent("Placed", {}, {"traceparent": 7})])
    (event,) = (await store.read("order-1")).events
    spans()
    with pytest.raises(ZeroDivisionError), handling(event, "mails"):
        raise ZeroDivisionError("secret")
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()


async def test_wrappers_can_be_put_around_each_other(store: EventStore) -> None:
    both = with_context(store)
    async with both.session() as session:
        await session.append("order-1", [NewEvent("Placed", {})])
    assert "session" in [span.name for span in spans()]
    (event,) = (await both.read("order-1")).events
    assert "traceparent" in event.metadata


async def test_a_store_without_the_wrapper_adds_nothing() -> None:
    async with MemoryEventStore() as plain:
        with trace.get_tracer("test").start_as_current_span("request"):
            await plain.append("order-1", [NewEvent("Placed", {})])
        assert (await plain.read("order-1")).events[0].metadata == {}


def test_the_board_shows_what_there_is() -> None:
    """Prometheus writes `_` for a dot, and puts the unit and the kind at the end."""
    known = {
        "db.client.operation.duration": "_seconds",
        "eventport.append.events": "_total",
        "eventport.conflicts": "_total",
        "eventport.process.delay": "_seconds",
        "messaging.process.duration": "_seconds",
    }
    assert all(list(points(name)) for name in known)
    named = {name.replace(".", "_") + ending for name, ending in known.items()}
    queries = [
        target["expr"]
        for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]
    found = re.findall(r"\b((?:db|eventport|messaging)_\w+?)(?:_bucket|_count)?[\[{]", str(queries))
    assert set(found) == named
