"""Events in memory: for tests, for trying things out, and as the model of all other stores."""

from __future__ import annotations

from eventport_memory.store import MemoryEventStore


__all__ = ["MemoryEventStore"]
