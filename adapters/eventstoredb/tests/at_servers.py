"""What the tests of servers share: events, metadata of streams, and a hook that collects."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from adapters.eventstoredb.tests.double.database import Proposed
from adapters.eventstoredb.tests.double.state import Double

from eventport import (
    NewEvent,
    RecordedEvent,
)

from eventport_eventstoredb import EventStoreDBEventStore


def set_metadata(double: Double, stream: str, text: str) -> None:
    event = Proposed(str(uuid4()), "$metadata", "application/json", text.encode(), b"")
    double.database.append(f"$${stream}", -2, [event])


def collected(store: EventStoreDBEventStore) -> list[RecordedEvent]:
    """Register a hook, and return the list of what it is given."""
    given: list[RecordedEvent] = []

    @store.after_commit
    async def hook(events: Sequence[RecordedEvent]) -> None:
        given.extend(events)

    return given


def numbered(count: int, type_: str = "A") -> list[NewEvent]:
    return [NewEvent(type_, number) for number in range(count)]
