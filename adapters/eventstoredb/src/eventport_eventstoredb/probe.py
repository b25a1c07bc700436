"""An event that is never written: the append that carries it is bound to be refused."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from eventport.adapter import EncodedEvent


A_PROBE: Final = EncodedEvent("eventport-probe", "null", "{}", UUID(int=0), 6)
"""What is sent to learn a head that no event tells any more."""
