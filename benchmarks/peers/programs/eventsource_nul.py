"""eventsource-py 0.8.1 on Postgres: text with U+0000 cannot be appended (GLO-23, DAT-07).

It keeps the payload as `jsonb`, which has no such character. The append fails with an error of
SQLAlchemy, and not with one of its own. Run it with the URL of an empty database.
"""

from __future__ import annotations

import asyncio
import sys

from uuid import uuid4

from eventsource.adapters.postgresql.store import PostgreSQLEventStore
from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry
from eventsource.ports import ExpectedVersion
from sqlalchemy.ext.asyncio import create_async_engine


class Noted(DomainEvent):
    """An event with a text."""

    aggregate_type: str = "note"
    text: str


async def main(url: str) -> None:
    """Append one text after the other."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    registry = EventRegistry()
    registry.register(Noted)
    store = PostgreSQLEventStore(engine, registry, store_id="one", create_schema=True)
    for text in ("a", "a\u0000b"):
        stream = StreamId(uuid4(), "note")
        event = Noted(aggregate_id=stream.aggregate_id, text=text)
        try:
            await store.append(stream, [event], ExpectedVersion.no_stream())
        except Exception as exc:  # noqa: BLE001  # whatever it is, it shows the fault
            print(f"FAIL: {text!r}: {type(exc).__name__}: {str(exc)[:120]}")
        else:
            print(f"PASS: {text!r}")
    await engine.dispose()


asyncio.run(main(sys.argv[1]))
