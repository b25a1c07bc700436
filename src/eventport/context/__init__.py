"""Context: what is bound for a block or task, and stands in the metadata of what it appends."""

from __future__ import annotations

from eventport.context.appending import with_context
from eventport.context.binding import (
    CAUSATION_ID,
    COMMAND_HASH,
    COMMAND_ID,
    CORRELATION_ID,
    SCHEMA_VERSION,
    USER,
    Cause,
    Context,
    bind_context,
    current_context,
    reacting_to,
)


__all__ = [
    "CAUSATION_ID",
    "COMMAND_HASH",
    "COMMAND_ID",
    "CORRELATION_ID",
    "SCHEMA_VERSION",
    "USER",
    "Cause",
    "Context",
    "bind_context",
    "current_context",
    "reacting_to",
    "with_context",
]
