"""Events in MongoDB: ordered without gaps, shared by processes, with real transactions."""

from __future__ import annotations

from eventport_mongodb.store import MongoDBEventStore


__all__ = ["MongoDBEventStore"]
