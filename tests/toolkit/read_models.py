"""Databases that hold events, checkpoints and read models, and a read model for both of them."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from itertools import count
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiosqlite
import asyncpg

from eventport import EventStore, RecordedEvent
from eventport.projections import Projection, ProjectionContext


if TYPE_CHECKING:
    import pytest  # which workers have no use for


Rows: TypeAlias = list[tuple[Any, ...]]

Totals: TypeAlias = dict[str, tuple[int, int, int]]
"""Of each account: how many events, their sum, and the last version."""

_numbers: Final = count()


class SQLitePlace:
    """A file."""

    frees_locks_of_the_halted = False
    """Whether others can continue while a process is halted in a transaction."""

    events = "eventport_events"
    """The table of the events."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._path: Path = request.getfixturevalue("tmp_path") / "place.db"
        self.url = f"sqlite:///{self._path}"
        """What opens the store, and the checkpoints."""

    async def query(self, sql: str) -> Rows:
        """Look from outside."""
        with closing(sqlite3.connect(self._path)) as db, db:
            return list(db.execute(sql))


class PostgresPlace:
    """A schema."""

    frees_locks_of_the_halted = True
    events = "events"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        base: str = request.getfixturevalue("postgres_url")
        schema = f"place_{getpid()}_{next(_numbers)}"
        self._plain = f"{base}{'&' if '?' in base else '?'}search_path={schema}"
        self.url = f"{self._plain}&schema={schema}"

    async def query(self, sql: str) -> Rows:
        """Look from outside."""
        connection = await asyncpg.connect(self._plain)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


Place: TypeAlias = SQLitePlace | PostgresPlace

PLACES: Final[dict[str, type[Place]]] = {"sqlite": SQLitePlace, "postgres": PostgresPlace}
"""The databases that commit a read model and its checkpoint together."""


async def execute(connection: Any, sql: str, *values: object) -> Rows:
    """Run a statement with parameters written ``$1``, through either driver."""
    if isinstance(connection, aiosqlite.Connection):
        async with connection.execute(sql.replace("$", "?"), values) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]
    return [tuple(row) for row in await connection.fetch(sql, *values)]


def totals(**options: Any) -> Projection[Any]:
    """Make a projection that counts; an event that is handled twice can be seen for ever."""
    projection: Projection[Any] = Projection("totals", prefix="account-", **options)

    @projection.prepare
    async def create(context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"CREATE TABLE IF NOT EXISTS totals{context.suffix} (stream text PRIMARY KEY, "
            "events bigint NOT NULL, total bigint NOT NULL, version bigint NOT NULL)",
        )

    @projection.on("Moved")
    async def moved(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"INSERT INTO totals{context.suffix} AS t VALUES ($1, 1, $2, $3) ON CONFLICT (stream) "
            "DO UPDATE SET events = t.events + 1, total = t.total + $2, version = $3",
            event.stream,
            event.data["amount"],
            event.version,
        )

    return projection


async def stored_totals(place: Place, generation: int = 1) -> Totals:
    """Read what the projection has written."""
    rows = await place.query(f"SELECT * FROM totals_{generation}")
    return {stream: (events, total, version) for stream, events, total, version in rows}


async def folded_totals(store: EventStore) -> Totals:
    """Fold the same from the events."""
    folded: Totals = {}
    async for event in store.iterate_all(prefix="account-", types=["Moved"]):
        events, total, _ = folded.get(event.stream, (0, 0, 0))
        folded[event.stream] = (events + 1, total + event.data["amount"], event.version)
    return folded
