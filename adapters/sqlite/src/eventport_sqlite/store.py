"""The store in SQLite: what opens it, and what only it can do."""

from __future__ import annotations

import os

from contextlib import AbstractAsyncContextManager
from typing import Self

import aiosqlite

from eventport.adapter import JoinedStore, Store, checks_options, open_to_end, require_asyncio
from eventport.errors import StoreClosedError
from eventport.transactions import DocumentReader, InlineHandler

from eventport_sqlite.connection import (
    MEMORY,
    Synchronous,
    open_connection,
    require_database,
)
from eventport_sqlite.documents import open_documents
from eventport_sqlite.engine import SQLiteEngine
from eventport_sqlite.joined import SQLiteJoinedEngine
from eventport_sqlite.places import BusyTimeout, check_path, path_in
from eventport_sqlite.projections import SQLiteCheckpoints


class SQLiteEventStore(Store):
    """An event store in one SQLite file, or in memory. It runs under asyncio.

    Several stores, in one process or in many, can work on one file. Make one with `open` or,
    from a URL, with `connect`.
    """

    def __init__(
        self, engine: SQLiteEngine, synchronous: Synchronous, busy_timeout: BusyTimeout
    ) -> None:
        super().__init__(engine, batching="contended")
        self._sqlite = engine
        self._synchronous: Synchronous = synchronous
        self._busy_timeout = busy_timeout

    @classmethod
    @checks_options
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout: BusyTimeout = 30.0,
        create: bool = True,
    ) -> Self:
        """Open a database file.

        Args:
            path: The file, or ``:memory:``.
            synchronous: ``full`` keeps every acknowledged append, even if the power fails;
                ``normal`` may lose the last ones then, but not if only the process dies.
            busy_timeout: How many seconds a commit waits for those of other processes.
            create: Whether to create the file if there is none.

        Raises:
            ConfigurationError: the file cannot be opened for writing, or may not be created, or
                an option is wrong.
            IncompatibleStoreError: it is not an event store, or one of a newer version; it was
                not touched.
            NotSupportedError: this is not asyncio.
        """
        name = check_path(path)
        require_asyncio("SQLite", "aiosqlite does")
        if not create:
            require_database(name)
        return await open_to_end(lambda: cls._open(name, synchronous, busy_timeout))

    @classmethod
    @checks_options
    async def connect(
        cls,
        url: str,
        *,
        synchronous: Synchronous = "full",
        busy_timeout: BusyTimeout = 30.0,
        create: bool = True,
    ) -> Self:
        """Open the store that a URL names.

        ``sqlite:///relative.db``, ``sqlite:////absolute.db``, and ``sqlite://`` for one in memory.
        Options are arguments here; `eventport.connect` takes them out of a URL.
        """
        return await cls.open(
            path_in(url), synchronous=synchronous, busy_timeout=busy_timeout, create=create
        )

    @classmethod
    async def _open(cls, path: str, synchronous: Synchronous, busy_timeout: BusyTimeout) -> Self:
        writer = await open_connection(path, synchronous, busy_timeout)
        if path == MEMORY:
            return cls(SQLiteEngine(path, writer, writer, busy_timeout), synchronous, busy_timeout)
        try:
            reader = await open_connection(path, synchronous, busy_timeout)
        except BaseException:
            await writer.close()
            raise
        return cls(SQLiteEngine(path, writer, reader, busy_timeout), synchronous, busy_timeout)

    def inline(
        self, handler: InlineHandler[aiosqlite.Connection]
    ) -> InlineHandler[aiosqlite.Connection]:
        """Register a handler that runs in the transaction of each commit of this store.

        See `InlineStore.inline`. Its connection is the one that writes. All other writers of the
        file wait for it; one that takes longer than `busy_timeout` is ended, and its append fails.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
        """
        self._sqlite.inline.add(handler)
        return handler

    def using(self, connection: aiosqlite.Connection) -> JoinedStore:
        """Return a store that works inside the transaction that is open on a connection.

        What it appends is committed, or rolled back, together with everything else that the
        caller does in that transaction. A projection's handler uses its connection so:
        ``store.using(context.connection)``. As long as the transaction is open, no other connection
        can write to the file: keep it short.

        Raises:
            StoreClosedError: this store has been closed.
        """
        if self.closed:
            message = f"{self!r} has been closed"
            raise StoreClosedError(message)
        return JoinedStore(SQLiteJoinedEngine(connection, self._sqlite.name, self._sqlite.inline))

    def checkpoints(self) -> AbstractAsyncContextManager[SQLiteCheckpoints] | None:
        """Open the checkpoints in the same file; None for a database in memory.

        See `SQLiteCheckpoints.open`.
        """
        if self._sqlite.name == MEMORY:
            return None
        return SQLiteCheckpoints.open(
            self._sqlite.name, synchronous=self._synchronous, busy_timeout=self._busy_timeout
        )

    def read_models(self) -> AbstractAsyncContextManager[DocumentReader]:
        """Open the documents in the same file; see `open_read_models`."""
        if self._sqlite.name == MEMORY:
            return self._sqlite.documents()
        return open_documents(self._sqlite.name, self._synchronous, self._busy_timeout)
