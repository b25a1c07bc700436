"""Notifying other stores that there is something new, and being notified: only a wake-up."""

from __future__ import annotations

import asyncio
import logging

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from asyncpg import InterfaceError

from eventport import EventportError, StoreUnavailableError
from eventport.adapter import ConnectionLostError, limit_wait, run_shielded

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.connections import Connections
from eventport_postgres.errors import DRIVER_ERRORS, lost, translated


_log: Final = logging.getLogger("eventport")

INTERVAL: Final = 0.005
"""The shortest time, in seconds, between two notifications of one store."""

_UNHEARD: Final = 0.1
"""The same while nobody listens: a store that begins to may hear of it that much later."""

# A session that listens holds a lock in shared mode. So this asks whether there is any: without
# one it writes nothing, while NOTIFY is a commit of its own. The name can be that of no stream.
_KEY: Final = "pg_catalog.hashtextextended('$listeners', $1::pg_catalog.oid::integer)"
_NOTIFY: Final = f"""
    SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(l.key)
        THEN NOT pg_catalog.pg_advisory_unlock(l.key)
        ELSE pg_catalog.pg_notify($2, '') IS NOT NULL
    END FROM (SELECT {_KEY}) AS l(key)
"""  # noqa: S608  # it is a constant
_LISTENS: Final = f"SELECT pg_catalog.pg_advisory_lock_shared({_KEY})"
_LISTENS_NO_MORE: Final = f"SELECT pg_catalog.pg_advisory_unlock_shared({_KEY})"

_LOOK: Final = 0.2
"""How many seconds pass, at most, until it is noticed that a pool is being closed."""

_WATCH: Final = 0.02
"""How many seconds pass, at most, until it is noticed that a caller's transaction has ended."""

_GOODBYE: Final = 1.0
"""How many seconds the server has to end the listening."""


class Push:
    """Listens on one connection, and notifies after commits, so that no commit waits for it.

    NOTIFY takes a lock that all transactions of a database share until they have ended, so it has
    no place in the transaction of an append. While the store listens, the connection that listens
    also notifies; otherwise one that reads does. It only does so while another store listens.

    Args:
        connections: Where to get connections from.
        place: The number of the store, from which channel and lock have their names.
        timeout: How many seconds the server has for an answer.
    """

    def __init__(self, connections: Connections, place: int, timeout: float) -> None:
        self._connections = connections
        self._place = place
        self._channel = f"eventport_{place}"
        self._timeout = timeout
        self._due = False
        self._task: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._watched: set[int] = set()
        """The connections, by their ids, whose transactions are waited for."""
        self._listening: AnyConnection | None = None
        self._heard = asyncio.Event()
        self._lock = asyncio.Lock()
        """A connection does one thing at a time."""

    def notify(self) -> None:
        """Notify the others, soon; many calls in a short time become one notification."""
        self._due = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._notify())

    def notify_after(self, connection: AnyConnection) -> None:
        """Notify the others, and this store, when the transaction of a caller's has ended.

        Only the caller knows when it commits. The driver knows without asking the server whether
        a transaction is open.
        """
        if id(connection) not in self._watched:
            self._watched.add(id(connection))
            task = asyncio.get_running_loop().create_task(self._watch(connection))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)

    async def listen(self) -> AsyncGenerator[None, None]:
        """See `Listens.listen`."""
        heard = self._heard

        def on_notification(connection: AnyConnection, pid: int, *_: object) -> None:
            if pid != connection.get_server_pid():
                heard.set()

        def on_end(_: object) -> None:
            heard.set()

        async def stop(connection: AnyConnection) -> None:
            """Leave no listener: a pool would complain about it."""
            connection.remove_termination_listener(on_end)
            if connection.is_closed():
                return
            try:
                async with limit_wait(_GOODBYE), self._lock:
                    await connection.remove_listener(self._channel, on_notification)
                    await ask(connection, _LISTENS_NO_MORE, self._place)
            except (*DRIVER_ERRORS, asyncio.CancelledError):
                connection.terminate()

        try:
            async with self._connections.listening(self._timeout) as connection:
                connection.add_termination_listener(on_end)
                try:
                    async with limit_wait(self._timeout):
                        await ask(connection, _LISTENS, self._place)
                        await connection.add_listener(self._channel, on_notification)
                    self._listening = connection
                    yield
                    while not connection.is_closed():
                        if await self._wait(connection, heard):
                            yield
                finally:
                    self._listening = None
                    await run_shielded(stop, connection)
        except DRIVER_ERRORS as exc:
            raise lost(exc) from exc
        raise ConnectionLostError("the connection that listens was lost")

    async def close(self) -> None:
        """Stop. What others have not been notified of yet, they find by polling."""
        tasks = [*self._watching, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _wait(self, connection: AnyConnection, heard: asyncio.Event) -> bool:
        """Wait for a notification; return whether one came before it was time to look around."""
        clock = asyncio.get_running_loop().time
        silent_until = clock() + self._timeout
        while clock() < silent_until:
            # No deadline on the server, which may have nothing to say: the time to look around.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await heard.wait()
            if heard.is_set():
                heard.clear()
                return True
            if self._connections.closing:
                raise StoreUnavailableError("the pool is being closed")
        # Nobody has said anything, so it is asked whether it is still there.
        async with self._lock:
            await connection.execute("SELECT 1", timeout=self._timeout)
        return False

    async def _watch(self, connection: AnyConnection) -> None:
        try:
            while _is_in_transaction(connection):  # noqa: ASYNC110  # nothing announces its end
                await asyncio.sleep(_WATCH)
        finally:
            self._watched.discard(id(connection))
        self.notify()
        self._heard.set()

    async def _notify(self) -> None:
        while self._due:
            self._due = False
            is_heard = False
            try:
                is_heard = await self._send()
            except (*DRIVER_ERRORS, EventportError) as exc:
                _log.info("no notification of other stores, so they poll: %s", translated(exc))
            await asyncio.sleep(INTERVAL if is_heard else _UNHEARD)

    async def _send(self) -> bool:
        """Notify those who listen; return whether there was anybody."""
        async with self._lock:
            connection = self._listening
            if connection is not None:
                try:
                    return await self._notify_on(connection)
                except DRIVER_ERRORS:
                    connection.terminate()
                    raise
        async with self._connections.reading(self._timeout) as connection:
            return await self._notify_on(connection)

    async def _notify_on(self, connection: AnyConnection) -> bool:
        # A session's own lock does not keep it from trying; its own notifications it ignores.
        arguments = (self._place, self._channel)
        return bool((await ask_one(connection, _NOTIFY, *arguments, within=self._timeout))[0])


def _is_in_transaction(connection: AnyConnection) -> bool:
    try:
        return connection.is_in_transaction()
    except InterfaceError:
        return False  # it has gone back to its pool
