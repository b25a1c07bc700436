"""What eventport finds by the entry point of this package."""

from __future__ import annotations

from typing import Final

from eventport.adapter import Adapter

from eventport_eventstoredb.store import EventStoreDBEventStore


ADAPTER: Final = Adapter(open=EventStoreDBEventStore.connect)
