"""Events in EventStoreDB or KurrentDB, through whichever of the two clients is installed."""

from __future__ import annotations

from eventport_eventstoredb.store import EventStoreDBEventStore


__all__ = ["EventStoreDBEventStore"]
