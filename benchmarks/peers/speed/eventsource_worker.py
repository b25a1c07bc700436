"""eventsource-py: its store on Postgres, through SQLAlchemy and asyncpg."""

from __future__ import annotations

import asyncio
import sys

from uuid import NAMESPACE_URL, uuid5

from answering import DATA, answer
from eventsource.adapters.postgresql.store import PostgreSQLEventStore
from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry
from eventsource.ports import ExpectedVersion
from sqlalchemy.ext.asyncio import create_async_engine


class ItemAdded(DomainEvent):
    """One event of an order."""

    aggregate_type: str = "order"
    data: dict[str, object]


async def main(url: str) -> None:
    """Take part."""
    engine = create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=16, max_overflow=16
    )
    registry = EventRegistry()
    registry.register(ItemAdded)
    store = PostgreSQLEventStore(engine, registry, store_id="one", create_schema=True)
    start = getattr(store, "initialize", None)
    if start is not None:
        await start()

    def name(stream: str) -> StreamId:
        return StreamId(uuid5(NAMESPACE_URL, stream), "order")

    async def append(stream: str, events: int) -> None:
        id_ = name(stream)
        made = [ItemAdded(aggregate_id=id_.aggregate_id, data=DATA) for _ in range(events)]
        await store.append(id_, made, ExpectedVersion.no_stream())

    async def read(stream: str) -> int:
        return len([event async for event in store.read_stream(name(stream))])

    await answer(append, read)


asyncio.run(main(sys.argv[1]))
