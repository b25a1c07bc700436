"""Checkpoints in SQLite, in the transaction of the read model: each event counts once."""

from __future__ import annotations

import os
import sqlite3

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import datetime
from typing import Any, Self, TypeAlias

import aiosqlite

from anyio import Lock

from eventport.adapter import require_asyncio, run_shielded
from eventport.errors import ConfigurationError, InvalidArgumentError
from eventport.projections.sql import Dialect, SqlCheckpoints, added_columns
from eventport.transactions import DocumentWriter

from eventport_sqlite.connection import (
    MEMORY,
    Synchronous,
    open_connection,
    require_database,
)
from eventport_sqlite.connection import Connection as OwnConnection
from eventport_sqlite.database import Database
from eventport_sqlite.documents import documents_on
from eventport_sqlite.locks import write_lock_on
from eventport_sqlite.places import BusyTimeout, check_path, path_in
from eventport_sqlite.scripts import run_script


Connection: TypeAlias = aiosqlite.Connection
"""What handlers write with: a connection of aiosqlite, in an open transaction."""


class SQLiteCheckpoints(SqlCheckpoints[Connection]):
    """A `CheckpointStore` in two tables of an SQLite file, that of the read model.

    What handlers write with the connection that they get is committed together with the
    checkpoint. Open one with `open` or, from a URL, with `connect`. While a batch is being
    handled, a renewal waits: no other runner can take the lease meanwhile, because the batch's
    transaction is the only one that can write.
    """

    def documents(self, connection: Connection, /) -> DocumentWriter:
        """See `KeepsDocuments.documents`."""
        return documents_on(connection)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout: BusyTimeout = 30.0,
        create: bool = True,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in a file, and make their tables if they are not there.

        Args:
            path: The file. It may be that of an event store, if that has been opened before.
            synchronous: See `SQLiteEventStore.open`.
            busy_timeout: How many seconds to wait for the commits of others.
            create: Whether to make the file and the tables if there are none.

        Raises:
            ConfigurationError: there are no checkpoints, and none are to be made.
        """
        name = check_path(path)
        require_asyncio("SQLite", "aiosqlite does")
        if not create:
            require_database(name)
        if name == MEMORY:
            raise ConfigurationError("checkpoints in memory would be alone there: name a file")
        writer = await open_connection(name, synchronous, busy_timeout, foreign=True)
        try:
            reader = await open_connection(name, synchronous, busy_timeout, foreign=True)
            try:
                if not create:
                    await writer.run_to_end(_require, name)
                await writer.run_to_end(_create)  # or bring them up to date
                yield cls(_File(name, writer, reader))
            finally:
                await run_shielded(reader.close)
        finally:
            await run_shielded(writer.close)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        synchronous: Synchronous = "full",
        busy_timeout: BusyTimeout = 30.0,
        create: bool = True,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in the file that a URL names, as `open` does."""
        async with cls.open(
            path_in(url), synchronous=synchronous, busy_timeout=busy_timeout, create=create
        ) as checkpoints:
            yield checkpoints


class _File:
    """A file as a `Database`."""

    projections = "eventport_projections"
    dead_letters = "eventport_dead_letters"
    # Nobody can take the lock away from a process that stands still.
    dialect: Dialect = Dialect(limit_idling="$4")

    def __init__(self, path: str, writer: OwnConnection, reader: OwnConnection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._lock = Lock()  # the writing connection is in one transaction at a time

    async def ask(self, sql: str, *values: object) -> list[Any]:
        """See `Database.ask`."""
        if sql.startswith("SELECT"):
            return await self._reader.run(_fetch, sql, *values)
        async with self._lock:
            return await self._writer.run_to_end(_write, sql, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[OwnConnection, None]:
        """See `Database.transaction`."""
        async with self._lock:
            try:
                await self._writer.run_to_end(Database.begin)
                with write_lock_on(self._path):
                    yield self._writer
                _require_open(self._writer)
                await self._writer.run_to_end(Database.commit)
            finally:
                if self._writer.in_transaction:
                    await run_shielded(self._writer.run, _roll_back)

    async def fetch(self, connection: Connection, sql: str, *values: object) -> list[Any]:
        """See `Database.fetch`."""
        _require_open(connection)
        return await self._writer.run(_fetch, sql, *values)


def _require_open(connection: Connection) -> None:
    if not connection.in_transaction:
        message = "a handler ended the transaction that it was to write in: leave that to its end"
        raise InvalidArgumentError(message)


# What happens in the thread of a connection.


def _require(db: Database, name: str) -> None:
    if not _columns(db):
        message = f"there are no checkpoints in {name}: check the name, or run a projection first"
        raise ConfigurationError(message)


def _create(db: Database) -> None:
    if _is_complete(db):
        return
    db.begin()
    try:
        run_script(db, "checkpoints.sql")
        there = _columns(db)
        for name, declaration in added_columns("text"):
            if name not in there:
                own = declaration.replace("bigint", "INTEGER").replace("double precision", "REAL")
                db.execute(f"ALTER TABLE eventport_projections ADD COLUMN {name} {own}")
        db.commit()
    finally:
        _roll_back(db)


def _is_complete(db: sqlite3.Connection) -> bool:
    tables = _fetch(db, "SELECT 1 FROM sqlite_schema WHERE name = 'eventport_dead_letters'")
    return bool(tables) and {name for name, _ in added_columns("text")} <= _columns(db)


def _columns(db: sqlite3.Connection) -> set[str]:
    sql = "SELECT name FROM pragma_table_info('eventport_projections')"
    return {row[0] for row in _fetch(db, sql)}


def _fetch(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    bound = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    with closing(db.execute(sql.replace("$", "?"), bound)) as cursor:
        return cursor.fetchall()


def _write(db: Database, sql: str, *values: object) -> list[Any]:
    # By `begin`, so that a caller that is cancelled need not wait for the lock.
    db.begin()
    try:
        rows = _fetch(db, sql, *values)
        db.commit()
    finally:
        _roll_back(db)
    return rows


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.rollback()
