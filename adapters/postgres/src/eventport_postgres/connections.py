"""Where connections come from: a URL, or a pool of the caller's; and which servers will do."""

from __future__ import annotations

import asyncio

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from eventport.errors import NotSupportedError

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.errors import DRIVER_ERRORS, is_lost


OLDEST: Final = 14
"""The oldest version of PostgreSQL that is supported."""

CLOSE_TIMEOUT: Final = 5.0
"""How many seconds a connection may take to say goodbye."""

_SETTINGS: Final = {
    # A role or a database may have another default, with which the locks would come too late.
    "default_transaction_isolation": "read committed",
    # Compiling does not pay for statements that take less than a millisecond.
    "jit": "off",
}
_SEEN: Final = """
    SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
        AND classid OPERATOR(pg_catalog.=) 20191 AND objid OPERATOR(pg_catalog.=) 14
        AND objsubid OPERATOR(pg_catalog.=) 2
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
"""
_IMPATIENCE: Final = {"lock_timeout": "50ms"}
"""How long a batch of commits waits for a stream that some transaction keeps locked."""


class Connections(ABC):
    """Connections by their purpose, so that none has to wait for another."""

    @abstractmethod
    def writing(
        self, within: float, *, patient: bool = False
    ) -> AbstractAsyncContextManager[AnyConnection]:
        """Give the connection for a batch of commits. There is one batch of each kind at a time.

        Args:
            within: How many seconds that may take.
            patient: Whether the batch shall wait for streams that are locked, however long. If
                not, the server may refuse it with `asyncpg.LockNotAvailableError`.
        """

    @abstractmethod
    def reading(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give a connection for one query."""

    @abstractmethod
    def listening(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give a connection that will be held for long."""

    @abstractmethod
    async def close(self) -> None:
        """Close those that are ours."""


class OwnConnections(Connections):
    """Connections to a URL: those that write, one that listens, and some that read.

    They are kept without asyncpg's pool: what that does between two uses costs as much as a
    small query.
    """

    def __init__(self, url: str, pool_size: int, *, transaction_pooling: bool) -> None:
        self._url = url
        self._transaction_pooling = transaction_pooling
        self._pool_size = pool_size
        self._slots = asyncio.Semaphore(pool_size)
        self._readers: list[AnyConnection] = []
        """Those that nobody uses at the moment."""
        self._reading: set[AnyConnection] = set()
        """Those that somebody uses."""
        self._writers: dict[bool, AnyConnection] = {}
        """By whether they are patient."""

    @asynccontextmanager
    async def writing(
        self, within: float, *, patient: bool = False
    ) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.writing`."""
        connection = self._writers.get(patient)
        if connection is None or connection.is_closed():
            settings = {} if patient else _IMPATIENCE
            connection = self._writers[patient] = await self._connect(within, **settings)
        yield connection

    @asynccontextmanager
    async def reading(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.reading`."""
        async with asyncio.timeout(within):
            await self._slots.acquire()
        try:
            connection: AnyConnection | None = None
            while self._readers and (connection is None or connection.is_closed()):
                connection = self._readers.pop()
            if connection is None or connection.is_closed():
                connection = await self._connect(within)
            self._reading.add(connection)
            try:
                yield connection
            finally:
                self._reading.remove(connection)
                self._readers.append(connection)
        finally:
            self._slots.release()

    @asynccontextmanager
    async def listening(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.listening`."""
        connection = await self._connect(within)
        try:
            yield connection
        finally:
            await _close(connection)

    async def close(self) -> None:
        """See `Connections.close`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for _ in range(self._pool_size):
                    await self._slots.acquire()  # who reads ends first
        for connection in (*self._writers.values(), *self._readers, *self._reading):
            await _close(connection)

    async def _connect(self, within: float, **settings: str) -> AnyConnection:
        # A pooler in transaction mode passes on neither settings nor prepared statements.
        arguments: dict[str, Any] = (
            {"statement_cache_size": 0}
            if self._transaction_pooling
            else {"server_settings": _SETTINGS | settings}
        )
        connection: AnyConnection = await asyncpg.connect(self._url, timeout=within, **arguments)
        return connection


class PoolConnections(Connections):
    """Connections of a pool that belongs to the caller; they go back after each use."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    def writing(
        self,
        within: float,
        *,
        patient: bool = False,  # noqa: ARG002  # the settings are the caller's
    ) -> AbstractAsyncContextManager[AnyConnection]:
        """See `Connections.writing`."""
        return self.reading(within)

    @asynccontextmanager
    async def reading(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.reading`."""
        async with self._pool.acquire(timeout=within) as connection:
            yield connection

    listening = reading

    async def close(self) -> None:
        """Leave the pool to its owner."""


@asynccontextmanager
async def not_used_again_if_lost(connection: AnyConnection) -> AsyncGenerator[None, None]:
    """Close a connection that was lost before its pool takes it back, and hands it out again."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        if is_lost(exc):
            connection.terminate()
        raise


async def check_server(connection: AnyConnection) -> None:
    """Raise `NotSupportedError` for a server that would lose or reorder events."""
    version = connection.get_server_version()
    check_version(version.major, version.minor)
    if (await ask_one(connection, "SELECT pg_catalog.pg_is_in_recovery()"))[0]:
        message = "this server is a standby, which cannot be written to: connect to its primary"
        raise NotSupportedError(message)
    encoding, isolation = await ask_one(
        connection,
        "SELECT pg_catalog.current_setting('server_encoding'), "
        "pg_catalog.current_setting('default_transaction_isolation')",
    )
    if encoding != "UTF8":
        message = f"this database has the encoding {encoding}, which cannot hold all text: use UTF8"
        raise NotSupportedError(message)
    if isolation != "read committed":
        message = (
            f"the default isolation of these connections is {isolation}; it must be read committed"
        )
        raise NotSupportedError(message)
    async with connection.transaction():
        # Some servers accept these calls and do nothing.
        await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock_shared(20191, 14)")
        seen = await ask(connection, _SEEN)
    if not seen:
        message = "this server only pretends to take advisory locks, on which the order depends"
        raise NotSupportedError(message)


def check_version(major: int, minor: int) -> None:
    """Raise `NotSupportedError` for a server that is too old."""
    if major < OLDEST:
        message = f"this server is PostgreSQL {major}.{minor}: {OLDEST} or newer is needed"
        raise NotSupportedError(message)


async def _close(connection: AnyConnection) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT)
    except DRIVER_ERRORS:
        connection.terminate()
