"""Events in memory: for tests, for trying things out, and as the reference for all other stores."""

from __future__ import annotations

from eventport_memory.store import MemoryEventStore


__all__ = ["MemoryEventStore"]
