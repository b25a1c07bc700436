"""A proxy on loopback that cuts the line before or after the server has done what was asked."""

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
        self._for_good = self._is_dead = False
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
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)

        async def forth() -> None:
            nonlocal loses_answer
            while data := await reader.read(1 << 20):
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
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(forth()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, back):
                end.close()
            await asyncio.gather(
                *ways, writer.wait_closed(), back.wait_closed(), return_exceptions=True
            )


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
