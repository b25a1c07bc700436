"""What eventport finds by the entry point of this package."""

from __future__ import annotations

from typing import Final

from eventport.adapter import Adapter

from eventport_postgres.documents import connect_documents
from eventport_postgres.projections import PostgresCheckpoints
from eventport_postgres.store import PostgresEventStore, PostgresSchema


ADAPTER: Final = Adapter(
    open=PostgresEventStore.connect,
    checkpoints=PostgresCheckpoints.connect,
    read_models=connect_documents,
    schema=PostgresSchema(),
)
