"""A connection to the server that can be dropped, and that can fall silent."""

from __future__ import annotations

import asyncio
import re

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager


_KEY = re.compile(rb"K\x00\x00\x00\x0c(.{4})", re.DOTALL)
"""The message in which a server says which of its processes serves the connection."""


class Proxy:
    """Listens on loopback and passes bytes on to a socket, until it is stopped."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        """Where new connections go."""
        self._lines: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self._stopped = asyncio.Event()
        self.port = 0
        self.drops = 0
        self.connections = 0
        """How many there have been."""
        self.lose: bytes | None = None
        """Drop once, instead of passing on the answer to a request that holds this."""
        self.before_the_drop: Callable[[], Awaitable[None]] | None = None
        """What happens then before the drop; once."""
        self.invent_numbers = False
        """Name another process than the one that serves, as PgBouncer does."""
        self.deaf = False
        """Accept connections, and do nothing with them."""
        self._answered = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def drop(self) -> None:
        """Drop all connections that are open, with whatever is on them."""
        for writer in self._lines:
            writer.transport.abort()
        self.drops += 1

    def silence(self) -> None:
        """Let all open connections fall silent: nothing is passed on, not even an end."""
        self._silent |= self._lines

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        if self.deaf:
            await self._stopped.wait()
            writer.transport.abort()
            return
        drops = self.drops
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            writer.transport.abort()
            return
        if self.drops > drops:  # it was open for the client already
            server_writer.transport.abort()
            writer.transport.abort()
            return
        pair = {writer, server_writer}
        self._lines |= pair
        await asyncio.gather(
            self._pump(reader, server_writer, self._asked),
            self._pump(server_reader, writer, self._answered_with),
        )
        self._lines -= pair

    def stop(self) -> None:
        """End all that is going on."""
        self._stopped.set()
        self.drop()

    async def _asked(self, data: bytes) -> bytes:
        if self.lose is not None and self.lose in data:
            self.lose, self._answered = None, True
        return data

    async def _answered_with(self, data: bytes) -> bytes:
        if self._answered:
            self._answered = False
            if self.before_the_drop is not None:
                before, self.before_the_drop = self.before_the_drop, None
                await before()
            self.drop()
        if self.invent_numbers:
            data = _KEY.sub(lambda _: b"K\x00\x00\x00\x0c\x00\x7f\x00\x01", data)
        return data

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        try:
            while data := await reader.read(65536):
                if writer in self._silent:
                    await self._stopped.wait()
                data = await look(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if writer not in self._silent:
                writer.close()


@asynccontextmanager
async def proxy(socket: str) -> AsyncGenerator[Proxy, None]:
    """Run a proxy."""
    line = Proxy(socket)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        line.stop()
        await asyncio.sleep(0.05)
