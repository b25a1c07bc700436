"""Events in PostgreSQL: one round trip for a batch, no global lock, no event missed."""

from __future__ import annotations

from eventport_postgres.store import PostgresEventStore, PostgresSchema


__all__ = ["PostgresEventStore", "PostgresSchema"]
