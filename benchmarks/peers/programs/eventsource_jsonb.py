"""eventsource-py 0.8.1 on Postgres: what `jsonb` makes of an event's data.

Keys come back in another order, and large floats and -0.0 as other numbers (DAT-03, DAT-04,
DAT-10). Run it with the URL of an empty database.
"""

from __future__ import annotations

import asyncio
import sys

from typing import Any
from uuid import uuid4

from eventsource.adapters.postgresql.store import PostgreSQLEventStore
from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry
from eventsource.ports import ExpectedVersion
from sqlalchemy.ext.asyncio import create_async_engine


class Noted(DomainEvent):
    """An event with any data."""

    aggregate_type: str = "note"
    data: Any


async def main(url: str) -> None:
    """Append some data, and read it."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    registry = EventRegistry()
    registry.register(Noted)
    store = PostgreSQLEventStore(engine, registry, store_id="one", create_schema=True)
    for data in ({"b": 1, "a": 2}, 1e300, -0.0):
        stream = StreamId(uuid4(), "note")
        event = Noted(aggregate_id=stream.aggregate_id, data=data)
        await store.append(stream, [event], ExpectedVersion.no_stream())
        async for found in store.read_stream(stream):
            seen = found.event.data
            print(f"{'PASS' if repr(seen) == repr(data) else 'FAIL'}: {data!r}: {seen!r:.60}")
    await engine.dispose()


asyncio.run(main(sys.argv[1]))
