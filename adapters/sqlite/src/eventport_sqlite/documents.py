"""Documents of read models in an SQLite file: two tables, in the transaction of the caller."""

from __future__ import annotations

import sqlite3

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any, Final, TypeAlias

import aiosqlite

from eventport.adapter import require_asyncio, run_shielded
from eventport.errors import ConfigurationError
from eventport.read_models.sql import DocumentDialect, SqlDocuments, SqlDocumentTransaction
from eventport.transactions import DocumentReader, DocumentWriter

from eventport_sqlite.connection import MEMORY, Connection, Synchronous, open_connection
from eventport_sqlite.lending import run_on
from eventport_sqlite.places import BusyTimeout, check_path, path_in
from eventport_sqlite.scripts import run_script


_IS_THERE: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'eventport_lookups_of_keys'"

_DIALECT: Final = DocumentDialect("eventport_documents", "eventport_lookups")

_Run: TypeAlias = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
"""Calls a function in the thread of a connection."""


@asynccontextmanager
async def _no_wait() -> AsyncGenerator[None]:
    yield


def documents_on(connection: aiosqlite.Connection) -> DocumentWriter:
    """Return the documents in the transaction that is open on a connection."""

    async def run(function: Callable[[sqlite3.Connection], Any]) -> Any:
        return await run_on(connection, function)

    return SqlDocumentTransaction(_Tables(run, makes=True), _DIALECT)


@asynccontextmanager
async def open_documents(
    path: str, synchronous: Synchronous, busy_timeout: float
) -> AsyncGenerator[DocumentReader]:
    """Open the documents in a file, to read them."""
    require_asyncio("SQLite", "aiosqlite does")
    if path == MEMORY:
        raise ConfigurationError("read models in memory would be alone there: name a file")
    connection = await open_connection(path, synchronous, busy_timeout, foreign=True)
    try:
        yield documents_of(connection)
    finally:
        await run_shielded(connection.close)


def documents_of(
    connection: Connection, turn: Callable[[], AbstractAsyncContextManager[None]] = _no_wait
) -> DocumentReader:
    """Return the documents that a connection reads.

    Args:
        connection: Which one.
        turn: Waits until no transaction that may be undone is open on it.
    """

    async def run(function: Callable[[sqlite3.Connection], Any]) -> Any:
        async with turn():
            return await connection.run(function)

    return SqlDocuments(_Tables(run, makes=False), _DIALECT)


@asynccontextmanager
async def connect_documents(
    url: str, *, synchronous: Synchronous = "full", busy_timeout: BusyTimeout = 30.0
) -> AsyncGenerator[DocumentReader]:
    """Open the documents in the file that a URL names, to read them."""
    async with open_documents(check_path(path_in(url)), synchronous, busy_timeout) as reader:
        yield reader


class _Tables:
    """The two tables, as a `DocumentConnection`."""

    def __init__(self, run: _Run, *, makes: bool) -> None:
        self._run = run
        self._makes = makes
        self._is_ready = False

    async def prepare(self) -> bool:
        """See `DocumentConnection.prepare`."""
        if not self._is_ready:
            self._is_ready = await self._run(_make if self._makes else _is_there)
        return self._is_ready

    async def fetch(self, sql: str, *values: object) -> Sequence[Any]:
        """See `DocumentConnection.fetch`."""

        def work(db: sqlite3.Connection) -> Sequence[Any]:
            with closing(db.execute(sql.replace("$", "?"), values)) as cursor:
                return cursor.fetchall()

        return await self._run(work)  # type: ignore[no-any-return]  # it is what `work` returns


def _is_there(db: sqlite3.Connection) -> bool:
    with closing(db.execute(_IS_THERE)) as cursor:
        return cursor.fetchone() is not None


def _make(db: sqlite3.Connection) -> bool:
    if not _is_there(db):
        run_script(db, "documents.sql")
    return True
