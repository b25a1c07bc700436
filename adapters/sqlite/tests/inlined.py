"""A read model of every event, which an inline handler writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import aiosqlite

from eventport import NewEvent, RecordedEvent
from eventport.transactions import Transaction

from eventport_sqlite import SQLiteEventStore


Query = Callable[..., list[tuple[object, ...]]]


Writing: TypeAlias = "Transaction[aiosqlite.Connection]"


def events(*data: object) -> list[NewEvent]:
    return [NewEvent("E", value) for value in data]


async def project(events: Sequence[RecordedEvent], transaction: Writing) -> None:
    """Keep a row for each event; a second one for the same event is an error."""
    await transaction.connection.executemany(
        "INSERT INTO model VALUES (?, ?, ?)",
        [(event.position, event.stream, event.version) for event in events],
    )


async def rows(store: SQLiteEventStore) -> list[tuple[object, ...]]:
    """Give what `model` must hold."""
    return [(event.position, event.stream, event.version) async for event in store.iterate_all()]
