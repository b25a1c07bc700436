"""Checkpoints in SQLite, in the transaction of the read model: each event counts once."""

from __future__ import annotations

import os
import sqlite3

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Final, Self, TypeAlias

import aiosqlite

from anyio import Lock
from msgspec import convert, to_builtins

from eventport.errors import (
    ConfigurationError,
    InvalidArgumentError,
    LeaseLostError,
    NoDeadLetterError,
)
from eventport.opening import require_asyncio
from eventport.projections.checkpoints import Checkpoint, DeadLetter, ProjectionId
from eventport.shielding import run_shielded

from eventport_sqlite.connection import MEMORY, Synchronous, open_connection
from eventport_sqlite.connection import Connection as OwnConnection
from eventport_sqlite.database import Database
from eventport_sqlite.store import check_options, check_path, path_in


Connection: TypeAlias = aiosqlite.Connection
"""What handlers write with: a connection of aiosqlite, in an open transaction."""

_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS eventport_projections (
        name       TEXT    NOT NULL,
        generation INTEGER NOT NULL,
        position   INTEGER NOT NULL DEFAULT 0,
        active     INTEGER NOT NULL DEFAULT 0, -- of several, the highest generation is
        owner      TEXT,
        fence      INTEGER NOT NULL DEFAULT 0, -- counts the leases; only the last one is good
        expires_at REAL    NOT NULL DEFAULT 0, -- seconds since 1970, UTC
        PRIMARY KEY (name, generation)
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS eventport_dead_letters (
        name       TEXT    NOT NULL,
        generation INTEGER NOT NULL,
        position   INTEGER NOT NULL,
        stream     TEXT    NOT NULL,
        version    INTEGER NOT NULL,
        type       TEXT    NOT NULL,
        error      TEXT    NOT NULL,
        attempts   INTEGER NOT NULL,
        at         TEXT    NOT NULL,           -- ISO 8601, UTC
        PRIMARY KEY (name, generation, position)
    ) STRICT
    """,
)
_NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
_MINE: Final = "name = ? AND generation = ? AND fence = ?"
_ACQUIRE: Final = f"""
    INSERT INTO eventport_projections AS p (name, generation, owner, fence, expires_at)
    VALUES (?1, ?2, ?3, 1, {_NOW} + ?4)
    ON CONFLICT (name, generation) DO UPDATE
    SET owner = ?3, fence = p.fence + 1, expires_at = {_NOW} + ?4
    WHERE p.expires_at <= {_NOW} OR p.owner = ?3
    RETURNING fence, position
"""  # noqa: S608  # no value goes into the text
_HELD: Final = f"SELECT fence FROM eventport_projections WHERE {_MINE}"  # noqa: S608  # as above
_RENEW: Final = f"""
    UPDATE eventport_projections
    SET position = max(position, ?4), expires_at = {_NOW} + ?5
    WHERE name = ?1 AND generation = ?2 AND fence = ?3 RETURNING fence
"""  # noqa: S608  # as above
_RELEASE: Final = f"""
    UPDATE eventport_projections SET owner = NULL, expires_at = 0 WHERE {_MINE}
"""  # noqa: S608  # as above
_LOAD: Final = f"""
    SELECT position, CASE WHEN expires_at > {_NOW} THEN owner END
    FROM eventport_projections WHERE name = ? AND generation = ?
"""  # noqa: S608  # as above
_ACTIVE: Final = """
    SELECT coalesce(max(generation), 0) FROM eventport_projections WHERE name = ? AND active
"""
_ACTIVATE: Final = """
    INSERT INTO eventport_projections (name, generation, active) VALUES (?, ?, 1)
    ON CONFLICT (name, generation) DO UPDATE SET active = 1
"""
_FIELDS: Final = DeadLetter.__struct_fields__
_COLUMNS: Final = ", ".join(_FIELDS)
_LETTERS: Final = f"""
    SELECT {_COLUMNS} FROM eventport_dead_letters
    WHERE name = ? AND generation = ? ORDER BY position
"""  # noqa: S608  # as above
_GIVE_UP: Final = f"""
    INSERT INTO eventport_dead_letters (name, generation, {_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""  # noqa: S608  # as above
_RESOLVE: Final = """
    DELETE FROM eventport_dead_letters WHERE name = ? AND generation = ? AND position = ?
    RETURNING position
"""


class SQLiteCheckpoints:
    """A `CheckpointStore` in two tables of an SQLite file, that of the read model.

    What handlers write with the connection that they get is committed together with the
    checkpoint. Open one with `open` or, from a URL, with `connect`.
    """

    def __init__(self, writer: OwnConnection, reader: OwnConnection) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = Lock()  # the writing connection is in one transaction at a time

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout: float = 30.0,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in a file, and make their tables if they are not there.

        Args:
            path: The file. It may be that of an event store, if that has been opened before.
            synchronous: See `SQLiteEventStore.open`.
            busy_timeout: How many seconds to wait for the commits of others.
        """
        name = check_path(path)
        check_options(synchronous, busy_timeout)
        require_asyncio("SQLite", "aiosqlite does")
        if name == MEMORY:
            raise ConfigurationError("checkpoints in memory would be alone there: name a file")
        writer = await open_connection(name, synchronous, busy_timeout, foreign=True)
        try:
            reader = await open_connection(name, synchronous, busy_timeout, foreign=True)
            try:
                await writer.run_to_end(_create)
                yield cls(writer, reader)
            finally:
                await run_shielded(reader.close)
        finally:
            await run_shielded(writer.close)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, synchronous: Synchronous = "full", busy_timeout: float = 30.0
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in the file that a URL names, as `open` does."""
        async with cls.open(
            path_in(url), synchronous=synchronous, busy_timeout=busy_timeout
        ) as checkpoints:
            yield checkpoints

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float
    ) -> SQLiteLease | None:
        """See `CheckpointStore.acquire`."""
        rows = await self.write(_ACQUIRE, *projection, owner, seconds)
        return SQLiteLease(self, projection, seconds, *rows[0]) if rows else None

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        rows = await self._reader.run(_fetch, _LOAD, *projection)
        return Checkpoint(*rows[0]) if rows else Checkpoint(0, None)

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        rows = await self._reader.run(_fetch, _ACTIVE, name)
        generation: int = rows[0][0]
        return generation

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        await self.write(_ACTIVATE, *projection)

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        rows = await self._reader.run(_fetch, _LETTERS, *projection)
        return [convert(dict(zip(_FIELDS, row, strict=True)), DeadLetter) for row in rows]

    @asynccontextmanager
    async def resolve(
        self, projection: ProjectionId, position: int
    ) -> AsyncGenerator[Connection, None]:
        """See `CheckpointStore.resolve`."""
        async with self.transaction():
            if not await self._writer.run(_fetch, _RESOLVE, *projection, position):
                raise NoDeadLetterError(projection, position)
            yield self._writer

    # What leases use.

    async def write(self, sql: str, *values: object) -> list[Any]:
        """Run one statement, which is a transaction of its own."""
        async with self._lock:
            return await self._writer.run_to_end(_fetch, sql, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[OwnConnection, None]:
        """Open a transaction, and commit it at the end of the block."""
        async with self._lock:
            try:
                await self._writer.run_to_end(Database.begin)
                yield self._writer
                _require_open(self._writer)
                await self._writer.run_to_end(Database.commit)
            finally:
                if self._writer.in_transaction:
                    await run_shielded(self._writer.run, _roll_back)


class SQLiteLease:
    """A `Lease` on a projection of `SQLiteCheckpoints`."""

    def __init__(
        self,
        checkpoints: SQLiteCheckpoints,
        projection: ProjectionId,
        seconds: float,
        fence: int,
        position: int,
    ) -> None:
        self._checkpoints = checkpoints
        self._projection = projection
        self._key = (*projection, fence)
        self._seconds = seconds
        self.position = position
        """See `Lease.position`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`.

        While a batch is being handled it waits: nobody can take the lease meanwhile, because the
        batch's transaction is the only one that can write.
        """
        self._require(await self._checkpoints.write(_RENEW, *self._key, position, self._seconds))

    @asynccontextmanager
    async def advance(
        self, position: int, *, dead_letter: DeadLetter | None = None
    ) -> AsyncGenerator[Connection, None]:
        """See `Lease.advance`."""
        async with self._checkpoints.transaction() as connection:
            self._require(await connection.run(_fetch, _HELD, *self._key))
            yield connection
            _require_open(connection)
            if dead_letter is not None:
                values = to_builtins(dead_letter).values()
                await connection.run(_fetch, _GIVE_UP, *self._projection, *values)
            self._require(await connection.run(_fetch, _RENEW, *self._key, position, self._seconds))

    async def release(self) -> None:
        """See `Lease.release`."""
        await self._checkpoints.write(_RELEASE, *self._key)

    def _require(self, rows: Sequence[object]) -> None:
        if not rows:
            raise LeaseLostError(self._projection)


def _require_open(connection: Connection) -> None:
    if not connection.in_transaction:
        message = "a handler ended the transaction that it was to write in: leave that to its end"
        raise InvalidArgumentError(message)


# What happens in the thread of a connection.


def _create(db: sqlite3.Connection) -> None:
    there = "SELECT count(*) FROM sqlite_schema WHERE name IN (?, ?)"
    if _fetch(db, there, "eventport_projections", "eventport_dead_letters") != [(2,)]:
        for sql in _TABLES:
            db.execute(sql)


def _fetch(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    with closing(db.execute(sql, values)) as cursor:
        return cursor.fetchall()


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
