"""A proxy on loopback that drops or silences connections, at a command or at any time."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal


Side = Literal["before", "after"]


class Proxy:
    """Passes bytes on between clients and a server, until it is told to cut."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._marker = b""
        self._side: Side = "before"
        self._times = 0
        self._for_good = self._is_dead = self._is_dumb = False
        self._connections: set[_Connection] = set()
        self.port = 0
        self.cuts = 0

    def cut(self, command: str, side: Side, *, times: int = 1, for_good: bool = False) -> None:
        """Cut the line at a command, before the server gets it or before its answer gets out.

        If it is for good, nothing gets through after that.
        """
        self._marker = command.encode() + b"\0"
        self._side, self._times, self._for_good = side, times, for_good

    def stop_cutting(self) -> None:
        """Pass everything on again."""
        self._times = 0
        self._for_good = self._is_dead = False

    def drop(self) -> None:
        """Close all connections of drivers that there are."""
        for connection in self._of_drivers():
            connection.dropped.set()

    def silence(self) -> None:
        """Pass nothing on any more of the connections of drivers that there are; new ones work.

        Neither end is told, as if a firewall had forgotten them.
        """
        for connection in self._of_drivers():
            connection.silent = True

    def go_dead(self) -> None:
        """Take connections, and never pass anything on."""
        self._is_dumb = True

    def _of_drivers(self) -> list[_Connection]:
        # Members of a replica set may talk to each other through here, too.
        return [connection for connection in self._connections if connection.is_drivers]

    def _side_to_cut(self, data: bytes) -> Side | None:
        if self._is_dead:
            return "before"
        if self._times == 0 or self._marker not in data:
            return None
        self._times -= 1
        self.cuts += 1
        self._is_dead = self._for_good
        return self._side

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        loses_answer = False
        connection = _Connection()
        self._connections.add(connection)
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)

        async def forth() -> None:
            nonlocal loses_answer
            while data := await reader.read(1 << 20):
                connection.is_drivers |= b"PyMongo" in data
                connection.silent |= self._is_dumb
                await connection.pass_on()
                side = self._side_to_cut(data)
                if side == "before":
                    return
                loses_answer = loses_answer or side == "after"
                back.write(data)
                await back.drain()

        async def answer() -> None:
            while data := await there.read(1 << 20):
                if loses_answer:
                    return
                await connection.pass_on()
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(way) for way in (forth(), answer(), connection.end())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            for end in (writer, back):
                end.close()
            await asyncio.gather(
                *ways, writer.wait_closed(), back.wait_closed(), return_exceptions=True
            )


class _Connection:
    """A connection through the proxy."""

    def __init__(self) -> None:
        self.is_drivers = False
        self.silent = False
        self.dropped = asyncio.Event()

    async def pass_on(self) -> None:
        """Return unless the connection has fallen silent."""
        if self.silent:
            await asyncio.Event().wait()

    async def end(self) -> None:
        """Return when the connection is to be closed."""
        await self.dropped.wait()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncGenerator[Proxy, None]:
    """Open a proxy to a port of this machine."""
    proxy = Proxy(port)
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await proxy.serve(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    yield proxy
    listener.close()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
