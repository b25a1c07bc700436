"""A line to the server that can be cut."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager


class Proxy:
    """Listens on loopback and passes bytes on to a socket, until it is told to cut."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._lines: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cuts = 0
        self.lose: bytes | None = None
        """Cut, once, instead of passing on the answer to a request that holds this."""
        self._answered = False

    def cut(self) -> None:
        """Cut all lines that are open, with whatever is on them."""
        for writer in self._lines:
            writer.transport.abort()
        self.cuts += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        self._lines |= {writer, server_writer}
        await asyncio.gather(
            _pump(reader, server_writer, self._asked), _pump(server_reader, writer, self._told)
        )
        self._lines -= {writer, server_writer}

    def _asked(self, data: bytes) -> None:
        if self.lose is not None and self.lose in data:
            self.lose, self._answered = None, True

    def _told(self, _: bytes) -> None:
        if self._answered:
            self._answered = False
            self.cut()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], None]
) -> None:
    try:
        while data := await reader.read(65536):
            look(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
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
        line.cut()
        await asyncio.sleep(0.05)
