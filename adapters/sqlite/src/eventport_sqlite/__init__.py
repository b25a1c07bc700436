"""Events in SQLite: durable, shared by processes, with grouped commits."""

from __future__ import annotations

from eventport_sqlite.store import SQLiteEventStore


__all__ = ["SQLiteEventStore"]
