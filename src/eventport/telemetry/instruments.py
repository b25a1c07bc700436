"""The tracer and the instruments, and the names that they have."""

from __future__ import annotations

from typing import Final

from opentelemetry import metrics, trace


SCOPE: Final = "eventport"
"""The instrumentation scope of all spans and metrics, and the system that these name."""

ERROR: Final = "error.type"
"""The attribute that holds the class of an exception."""

tracer: Final = trace.get_tracer(SCOPE)

_meter: Final = metrics.get_meter(SCOPE)

durations: Final = _meter.create_histogram(
    "db.client.operation.duration",
    unit="s",
    description="How long calls of a store take.",
)
appended: Final = _meter.create_counter(
    "eventport.append.events",
    unit="{event}",
    description="Events that were appended.",
)
sizes: Final = _meter.create_histogram(
    "eventport.append.size",
    unit="{event}",
    description="How many events an append or a session commits at once.",
)
conflicts: Final = _meter.create_counter(
    "eventport.conflicts",
    unit="{conflict}",
    description="Calls refused since an expectation or a condition did not hold.",
)
delays: Final = _meter.create_histogram(
    "eventport.process.delay",
    unit="s",
    description="Time from the recording of an event to the start of its handler.",
)
handled: Final = _meter.create_histogram(
    "messaging.process.duration",
    unit="s",
    description="How long handlers of events take.",
)
