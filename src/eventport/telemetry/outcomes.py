"""How an operation ended, as a span says it."""

from __future__ import annotations

from opentelemetry.trace import Span, StatusCode

from eventport.errors import ConcurrencyError
from eventport.telemetry.instruments import ERROR


def note_error(span: Span, exc: BaseException) -> str:
    """Note an exception by its class alone, and return that: a message may hold an event's data.

    A conflict or a cancellation is part of normal work, and does not make the span an error.
    """
    name = type(exc).__qualname__
    span.set_attribute(ERROR, name)
    if isinstance(exc, Exception) and not isinstance(exc, ConcurrencyError):
        span.set_status(StatusCode.ERROR, name)
    return name
