"""OpenTelemetry: spans and metrics of stores and handlers; needs ``eventport[otel]``.

Names follow the semantic conventions for databases and messaging where these fit.
"""

from __future__ import annotations

from eventport.telemetry.handling import handling
from eventport.telemetry.stores import with_telemetry


__all__ = ["handling", "with_telemetry"]
