"""Where connections come from: a URL, or a pool of the caller's; and which servers will do."""

from __future__ import annotations

import asyncio

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import asyncpg

from anyio import CancelScope
from asyncpg.pool import PoolConnectionProxy

from eventport.adapter import limit_wait
from eventport.errors import StoreUnavailableError

from eventport_postgres.asking import AnyConnection, ask_one
from eventport_postgres.background import Background
from eventport_postgres.errors import DRIVER_ERRORS, is_lost
from eventport_postgres.keepalive import keep_alive
from eventport_postgres.servers import refuse_standby
from eventport_postgres.vendor import behind_proxy


CLOSE_TIMEOUT: Final = 5.0
"""How many seconds a connection may take to say goodbye, or to end what was cancelled."""

_SETTINGS: Final = {
    # A role or a database may have another default, with which the locks would come too late.
    "default_transaction_isolation": "read committed",
    # Compiling does not pay for statements that take less than a millisecond.
    "jit": "off",
}

_WHO: Final = """
    SELECT pg_catalog.pg_backend_pid(), (
        SELECT backend_start FROM pg_catalog.pg_stat_activity
        WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
    )
"""


class Backend(NamedTuple):
    """The server's process behind a connection, as it identifies itself.

    A pooler between makes up the number that a driver is given when it connects.
    """

    pid: int
    started_at: datetime | None
    """None if the role may not know, which is so after SET ROLE."""


class Connections(ABC):
    """Connections by their purpose, so that none has to wait for another.

    One that was lost is never given again, and neither is one that is still busy with something
    that was cancelled.
    """

    def __init__(self) -> None:
        self._backends: WeakKeyDictionary[object, Backend] = WeakKeyDictionary()

    @abstractmethod
    def writing(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give the connection for a batch of commits. There is one batch at a time.

        Args:
            within: How many seconds that may take.
        """

    @abstractmethod
    def reading(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give a connection for one query."""

    @abstractmethod
    def listening(self, within: float) -> AbstractAsyncContextManager[AnyConnection]:
        """Give a connection that will be held for long."""

    @property
    @abstractmethod
    def closing(self) -> bool:
        """Whether the owner of the connections wants them back."""

    @abstractmethod
    def separate(self) -> Connections:
        """Return further connections to the same place, for transactions of long duration."""

    @abstractmethod
    async def close(self, within: float = CLOSE_TIMEOUT) -> None:
        """Close those that are ours, within this many seconds."""

    async def backend(self, connection: AnyConnection, within: float) -> Backend:
        """Return the backend at the other end; it is asked once for each connection."""
        key = behind_proxy(connection)
        found = self._backends.get(key)
        if found is None:
            row = await ask_one(connection, _WHO, within=within)
            found = self._backends[key] = Backend(*row)
        return found


class OwnConnections(Connections):
    """Connections to a URL: one that writes, one that listens, and some that read.

    They are kept without asyncpg's pool: what that does between two uses costs as much as a
    small query.
    """

    def __init__(self, url: str, pool_size: int, *, transaction_pooling: bool) -> None:
        super().__init__()
        self._url = url
        self._transaction_pooling = transaction_pooling
        self._pool_size = pool_size
        self._slots = asyncio.Semaphore(pool_size)
        self._readers: list[AnyConnection] = []
        """Those that nobody uses at the moment."""
        self._reading: set[AnyConnection] = set()
        """Those that somebody uses, or that end what was cancelled."""
        self._writer: AnyConnection | None = None
        self._background = Background()
        self._is_closed = False

    @property
    def closing(self) -> bool:
        """See `Connections.closing`."""
        return self._is_closed

    @asynccontextmanager
    async def writing(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.writing`."""
        if self._writer is None or self._writer.is_closed():
            self._writer = await self._connect(within)
        connection = self._writer
        try:
            with _ThrownAwayIfLost(connection), _NoCancellationButOurs():
                yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise

    def reading(self, within: float) -> _Reading:
        """See `Connections.reading`."""
        return _Reading(self, within)

    @asynccontextmanager
    async def listening(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.listening`."""
        connection = await self._connect(within)
        try:
            yield connection
        finally:
            connection.terminate()  # it has nothing to say that anybody waits for

    def separate(self) -> OwnConnections:
        """See `Connections.separate`."""
        return OwnConnections(
            self._url, max(2, self._pool_size), transaction_pooling=self._transaction_pooling
        )

    async def close(self, within: float = CLOSE_TIMEOUT) -> None:
        """See `Connections.close`: on a silent line each of its steps takes a part of the time."""
        clock = asyncio.get_running_loop().time
        within = min(within, CLOSE_TIMEOUT)
        deadline = clock() + within
        await self._background.end(within / 3)
        for _ in range(self._pool_size):  # reads end first
            try:
                # The last third is left for saying goodbye on all connections.
                async with limit_wait(deadline - within / 3 - clock()):
                    await self._slots.acquire()
            except TimeoutError:
                break
        self._is_closed = True
        for connection in self._reading:
            connection.terminate()  # closed in an orderly way, it would give its query None
        every = self._readers if self._writer is None else [*self._readers, self._writer]
        await asyncio.gather(*(_close(connection, deadline) for connection in every))

    async def borrow(self, within: float) -> AnyConnection:
        """Take a connection for one query."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        if self._slots.locked():
            async with limit_wait(within, "no connection was free"):
                await self._slots.acquire()
        else:
            await self._slots.acquire()
        try:
            return await self._take_reader(max(deadline - clock(), 0.01))
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, connection: AnyConnection, exc: BaseException | None) -> None:
        """Take a connection back, after the error that its query has raised, if it has.

        A connection that was lost is closed before anybody gets it again.
        """
        if isinstance(exc, Exception) and is_lost(exc):
            connection.terminate()
        if isinstance(exc, asyncio.CancelledError) and not connection.is_closed():
            self._background.start(self._take_back_quiet(connection))
            return
        if exc is not None and connection.is_closed():
            # What ended it may well have ended the others, too.
            while self._readers:
                self._readers.pop().terminate()
        self._take_back(connection)

    async def _take_reader(self, within: float) -> AnyConnection:
        connection: AnyConnection | None = None
        while self._readers and (connection is None or connection.is_closed()):
            connection = self._readers.pop()
        if connection is None or connection.is_closed():
            connection = await self._connect(within)
        self._reading.add(connection)
        return connection

    def _take_back(self, connection: AnyConnection) -> None:
        self._reading.remove(connection)
        if not connection.is_closed() and connection.is_in_transaction():
            connection.terminate()  # nobody else may write in it
        if not connection.is_closed():
            self._readers.append(connection)
        self._slots.release()

    async def _take_back_quiet(self, connection: AnyConnection) -> None:
        """Take a connection back when the driver has ended what was cancelled on it."""
        try:
            await _end_what_was_cancelled(connection)
        finally:
            self._take_back(connection)

    async def _connect(self, within: float) -> AnyConnection:
        if self._is_closed:  # a read that was lost is asked again, and nobody would close this one
            raise StoreUnavailableError("these connections have been closed")
        # A pooler in transaction mode passes on neither settings nor prepared statements.
        arguments: dict[str, Any] = (
            {"statement_cache_size": 0}
            if self._transaction_pooling
            else {"server_settings": _SETTINGS}
        )
        connection: AnyConnection = await asyncpg.connect(self._url, timeout=within, **arguments)
        try:
            keep_alive(connection)
            await refuse_standby(connection, within)
        except BaseException:
            connection.terminate()  # nobody else knows of it
            raise
        return connection


class _Reading:
    """One use of a connection; a class, because each small read would feel a generator."""

    __slots__ = ("_connection", "_connections", "_within")

    def __init__(self, connections: OwnConnections, within: float) -> None:
        self._connections = connections
        self._within = within

    async def __aenter__(self) -> AnyConnection:
        self._connection = await self._connections.borrow(self._within)
        return self._connection

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self._connections.give_back(self._connection, exc)


class PoolConnections(Connections):
    """Connections of a pool that belongs to the caller; they go back after each use."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        super().__init__()
        self._pool = pool
        self._background = Background()

    @property
    def closing(self) -> bool:
        """See `Connections.closing`."""
        return self._pool.is_closing()

    @asynccontextmanager
    async def reading(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.reading`."""
        if self.closing:
            raise StoreUnavailableError("the pool that this store was opened on has been closed")
        connection = await self._pool.acquire(timeout=within)
        try:
            with _ThrownAwayIfLost(connection):
                await refuse_standby(connection, within)
                yield connection
        except asyncio.CancelledError:
            # Its owner must not get our cancellation, and our caller does not wait for its end.
            self._background.start(self._release(connection))
            raise
        except BaseException:
            with CancelScope(shield=True):  # the error must not be lost, even if time is up
                await self._give_back(connection)
            raise
        else:
            await self._give_back(connection)

    listening = reading

    @asynccontextmanager
    async def writing(self, within: float) -> AsyncGenerator[AnyConnection, None]:
        """See `Connections.writing`."""
        async with self.reading(within) as connection:
            try:
                with _NoCancellationButOurs():
                    yield connection
            except asyncio.CancelledError:
                # The search for what was sent ends its backend, which nobody else may have then.
                connection.terminate()
                raise

    def separate(self) -> PoolConnections:
        """See `Connections.separate`; the pool is one, and its size is the caller's business."""
        return self

    async def close(self, within: float = CLOSE_TIMEOUT) -> None:
        """Leave the pool to its owner, with all of its connections."""
        await self._background.end(min(within, CLOSE_TIMEOUT))

    async def _give_back(self, connection: PoolConnectionProxy[Any]) -> None:
        # A caller that is cancelled does not wait for the end, but somebody has to.
        await asyncio.shield(self._background.start(self._release(connection)))

    async def _release(self, connection: PoolConnectionProxy[Any]) -> None:
        try:
            async with limit_wait(CLOSE_TIMEOUT):
                await self._pool.release(connection)
        except (*DRIVER_ERRORS, asyncio.CancelledError):
            # The driver would go on waiting for a silent server, and its pool for the connection.
            with suppress(asyncpg.InterfaceError):  # the pool itself has thrown it away
                connection.terminate()


class _ThrownAwayIfLost:
    """Closes a connection that was lost before anybody gets it again."""

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if isinstance(exc, Exception) and is_lost(exc):
            self._connection.terminate()


class _NoCancellationButOurs:
    """Makes a lost connection of a cancellation that nobody asked for.

    Some versions of the driver raise it on a connection on which several calls were cancelled
    one right after the other; an inline handler may do that to ours.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if isinstance(exc, asyncio.CancelledError) and not _is_being_cancelled():
            message = "the driver raised a cancellation that nobody asked for"
            raise asyncpg.ConnectionDoesNotExistError(message) from exc


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _end_what_was_cancelled(connection: AnyConnection) -> None:
    try:
        # The driver ends a cancellation before it begins something else. If that is cancelled,
        # too, some versions raise a cancellation forever; nobody cancels this one. A transaction
        # whose BEGIN was cancelled may be open: in it, those of others would be savepoints.
        async with limit_wait(CLOSE_TIMEOUT):
            await connection.reset()
    except (*DRIVER_ERRORS, asyncio.CancelledError):
        connection.terminate()


async def _close(connection: AnyConnection, deadline: float) -> None:
    try:
        # Some versions of the driver do not count the end of a cancellation in its own timeout.
        async with limit_wait(max(deadline - asyncio.get_running_loop().time(), 0)):
            await connection.close()
    except DRIVER_ERRORS:
        connection.terminate()
