"""What eventport finds by the entry point of this package."""

from __future__ import annotations

from typing import Final

from eventport.adapter import Adapter

from eventport_sqlite.documents import connect_documents
from eventport_sqlite.places import relative_to
from eventport_sqlite.projections import SQLiteCheckpoints
from eventport_sqlite.store import SQLiteEventStore


ADAPTER: Final = Adapter(
    open=SQLiteEventStore.connect,
    checkpoints=SQLiteCheckpoints.connect,
    relative_to=relative_to,
    read_models=connect_documents,
)
