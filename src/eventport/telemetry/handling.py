"""A span for the handler of an event, below the span that appended the event."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from eventport.catalogue import category_of
from eventport.events import RecordedEvent
from eventport.telemetry.instruments import ERROR, SCOPE, delays, handled, tracer
from eventport.telemetry.outcomes import note_error


@contextmanager
def handling(event: RecordedEvent, name: str) -> Generator[Span]:
    """Measure the block that handles an event, as a span and as metrics.

    The span belongs to the trace that the event carries in its metadata, if the event was appended
    through `with_telemetry`. Events that are appended in the block carry it on.

    Args:
        event: What is handled.
        name: Of the handler, such as that of its projection. There should be few names, since
            each makes a series of the metrics.
    """
    attributes = {"messaging.system": SCOPE, "messaging.consumer.group.name": name}
    delay = (datetime.now(UTC) - event.recorded_at).total_seconds()
    delays.record(max(delay, 0.0), attributes)
    more: dict[str, AttributeValue] = {
        "messaging.operation.type": "process",
        "messaging.operation.name": "handle",
        "messaging.destination.name": category_of(event.stream),
        "messaging.message.id": str(event.id),
        "eventport.stream": event.stream,
        "eventport.version": event.version,
        "eventport.position": event.position,
        "eventport.event.type": event.type,
    }
    carried = {key: text for key, text in event.metadata.items() if isinstance(text, str)}
    start = perf_counter()
    with tracer.start_as_current_span(
        f"handle {name}",
        propagate.extract(carried),
        SpanKind.CONSUMER,
        {**attributes, **more},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as exc:
            attributes[ERROR] = note_error(span, exc)
            raise
        finally:
            handled.record(perf_counter() - start, attributes)
