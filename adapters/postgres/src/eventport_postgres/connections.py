"""Where connections come from: a URL, or a pool of the caller's; and which servers will do."""

from __future__ import annotations

import asyncio

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg

from eventport.errors import NotSupportedError

from eventport_postgres.errors import DRIVER_ERRORS
from eventport_postgres.schema import AnyConnection


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


class _Connection(asyncpg.Connection):
    """A connection of ours: nothing needs to be reset when it goes back to its pool."""

    def get_reset_query(self) -> str:
        return ""


class Connections(ABC):
    """Connections by their purpose, so that none has to wait for another."""

    @abstractmethod
    def writing(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give the connection for a batch of commits. There is one batch at a time."""

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
    """Connections to a URL: one that writes, one that listens, and a pool of those that read."""

    def __init__(self, url: str, pool_size: int, *, transaction_pooling: bool) -> None:
        self._url = url
        # A pooler in transaction mode passes on neither settings nor prepared statements.
        self._arguments: dict[str, Any] = (
            {"statement_cache_size": 0} if transaction_pooling else {"server_settings": _SETTINGS}
        )
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._writer: AnyConnection | None = None

    @asynccontextmanager
    async def writing(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.writing`."""
        # It is kept, because what a pool does between two uses costs as much as a commit.
        if self._writer is None or self._writer.is_closed():
            self._writer = await self._connect(within)
        yield self._writer

    @asynccontextmanager
    async def reading(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.reading`."""
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._pool_size,
                connection_class=_Connection,
                timeout=within,
                **self._arguments,
            )
        await self._pool  # whoever comes first makes it; the others wait
        async with self._pool.acquire(timeout=within) as connection:
            yield connection

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
        if self._writer is not None:
            await _close(self._writer)
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), CLOSE_TIMEOUT)
            except DRIVER_ERRORS:
                self._pool.terminate()

    async def _connect(self, within: float) -> AnyConnection:
        return await asyncpg.connect(
            self._url, connection_class=_Connection, timeout=within, **self._arguments
        )


class PoolConnections(Connections):
    """Connections of a pool that belongs to the caller; they go back after each use."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def writing(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.writing`."""
        async with self._pool.acquire(timeout=within) as connection:
            yield connection

    reading = writing
    listening = writing

    async def close(self) -> None:
        """Leave the pool to its owner."""


async def check_server(connection: AnyConnection) -> None:
    """Raise `NotSupportedError` for a server that would lose or reorder events."""
    version = connection.get_server_version()
    check_version(version.major, version.minor)
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        message = "this server is a standby, which cannot be written to: connect to its primary"
        raise NotSupportedError(message)
    encoding, isolation = await connection.fetchrow(
        "SELECT current_setting('server_encoding'), "
        "current_setting('default_transaction_isolation')"
    ) or ("", "")
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
        await connection.execute("SELECT pg_advisory_xact_lock_shared(20191, 14)")
        seen = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 20191 "
            "AND objid = 14 AND objsubid = 2 AND pid = pg_backend_pid()"
        )
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
