"""What eventport finds by the entry point of this package."""

from __future__ import annotations

from typing import Final

from eventport.adapter import Adapter

from eventport_mongodb.store import MongoDBEventStore


ADAPTER: Final = Adapter(open=MongoDBEventStore.connect)
