"""A read model that inline handlers keep, and what it must hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import asyncpg

from eventport import (
    NewEvent,
    RecordedEvent,
)
from eventport.transactions import Transaction

from eventport_postgres import PostgresEventStore


Connection: TypeAlias = "asyncpg.Connection[Any]"
Events: TypeAlias = Sequence[RecordedEvent]
Writing: TypeAlias = "Transaction[Connection]"
Check: TypeAlias = Callable[[], Awaitable[int]]


def events(*data: object) -> list[NewEvent]:
    return [NewEvent("E", value) for value in data]


class Model:
    """A read model: a row for each event; a second one for the same event is an error."""

    def __init__(self, schema: str) -> None:
        self.table = f'"{schema}".model'

    async def create(self, connection: Connection) -> None:
        await connection.execute(
            f"CREATE TABLE {self.table} (position bigint PRIMARY KEY, stream text, version bigint)"
        )

    async def project(self, events: Events, transaction: Writing) -> None:
        await transaction.connection.executemany(
            f"INSERT INTO {self.table} VALUES ($1, $2, $3)",
            [(event.position, event.stream, event.version) for event in events],
        )

    async def rows(self, connection: Connection) -> list[tuple[object, ...]]:
        return list(
            map(tuple, await connection.fetch(f"SELECT * FROM {self.table} ORDER BY position"))
        )


async def stored(store: PostgresEventStore) -> list[tuple[object, ...]]:
    """Give what the model must hold."""
    return [(event.position, event.stream, event.version) async for event in store.iterate_all()]
