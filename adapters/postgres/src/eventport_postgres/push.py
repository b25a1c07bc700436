"""Telling other stores that there is something new, and being told: a wake-up, never the truth."""

from __future__ import annotations

import asyncio
import logging

from collections.abc import Callable
from typing import Final

from eventport_postgres.asking import AnyConnection
from eventport_postgres.connections import Connections
from eventport_postgres.errors import translated


_log: Final = logging.getLogger("eventport")

INTERVAL: Final = 0.005
"""The shortest time, in seconds, between two notifications of one store."""

_MAX_PAUSE: Final = 5.0
"""The longest time, in seconds, between two attempts to connect again."""


class Push:
    """One connection that listens, and that notifies after commits, so that no commit waits.

    NOTIFY takes a lock that all transactions of a database share until they have ended, so it has
    no place in the transaction of an append.

    Args:
        connections: Where to get the connection from.
        channel: What stores on the same schema listen to.
        wake: Called when another store has written something, or might have.
        timeout: How many seconds an attempt to connect may take.
    """

    def __init__(
        self, connections: Connections, channel: str, wake: Callable[[], None], timeout: float
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._wake = wake
        self._timeout = timeout
        self._due = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, if that has not been done yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def notify(self) -> None:
        """Tell the others, soon; many calls in a short time become one notification."""
        self._due = True
        self._changed.set()
        self.start()

    async def close(self) -> None:
        """Tell the others what they have not been told yet, and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with self._connections.listening(self._timeout) as connection:
                    connection.add_termination_listener(self._heard_of_the_end)
                    await connection.add_listener(self._channel, self._heard)
                    failures = 0
                    self._wake()  # nobody told us of what came before
                    try:
                        await self._serve(connection)
                    finally:
                        # A pool would complain about what is left on its connection.
                        if not connection.is_closed():
                            connection.remove_termination_listener(self._heard_of_the_end)
                            await connection.remove_listener(self._channel, self._heard)
            except Exception as exc:  # noqa: BLE001  # whatever it is, polling goes on
                _log.warning("no notifications for now: %s", translated(exc))
            failures += 1
            await asyncio.sleep(min(0.05 * 2**failures, _MAX_PAUSE))

    async def _serve(self, connection: AnyConnection) -> None:
        while not connection.is_closed():
            await self._changed.wait()
            self._changed.clear()
            if self._due and not connection.is_closed():
                self._due = False
                await connection.execute(f'NOTIFY "{self._channel}"')
                await asyncio.sleep(INTERVAL)

    def _heard(self, connection: AnyConnection, pid: int, *_: object) -> None:
        if pid != connection.get_server_pid():
            self._wake()

    def _heard_of_the_end(self, _: object) -> None:
        self._changed.set()
