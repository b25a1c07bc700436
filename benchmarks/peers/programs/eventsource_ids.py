"""eventsource-py 0.8.1: the id of an event is unique in the whole store, not in its stream.

An append to one stream fails because another stream holds an event with that id. This is another
promise than ours, where each stream holds its events as its own (APP-15, IDM-10).
"""

from __future__ import annotations

import asyncio

from uuid import uuid4

from eventsource.adapters.memory.store import InMemoryEventStore
from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.exceptions import DuplicateEventError
from eventsource.ports import ExpectedVersion


class Placed(DomainEvent):
    """An event."""

    aggregate_type: str = "Order"


async def main() -> None:
    """Append one event to two streams."""
    store = InMemoryEventStore()
    event = Placed(aggregate_id=uuid4())
    await store.append(StreamId(uuid4(), "Order"), [event], ExpectedVersion.no_stream())
    try:
        await store.append(StreamId(uuid4(), "Order"), [event], ExpectedVersion.no_stream())
    except DuplicateEventError as exc:
        print(f"FAIL: {exc}")
    else:
        print("PASS")


asyncio.run(main())
