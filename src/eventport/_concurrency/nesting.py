"""What has called us: a call from inside of something must not wait for its end."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final


inside_of: Final[ContextVar[object]] = ContextVar("eventport.inside_of", default=None)
"""The group commit or the gate whose task this is, or has called what is running; None if none."""
