"""A proxy on loopback that can cut, stall and refuse the line between a store and its server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Literal, TypeAlias

import anyio

from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup


Address: TypeAlias = tuple[str, int] | str
"""Where a server listens: a host and a port, or the path of a Unix socket."""

Direction: TypeAlias = Literal["to_server", "to_client"]

_LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 65536


class Proxy:
    """Passes bytes on, until it is told otherwise.

    A line that is cut ends as if the process at its other end had died: what was passed on
    before arrives, and then comes the end.
    """

    def __init__(self, target: Address, tasks: TaskGroup) -> None:
        self._target = target
        self._tasks = tasks
        self._listening: anyio.CancelScope | None = None
        self._refusing = anyio.Event()
        self._lines: set[anyio.CancelScope] = set()
        self._left: dict[Direction, int] = {}
        self._flowing = anyio.Event()
        self._flowing.set()
        self.host: Final = _LOOPBACK
        """Where clients connect to."""
        self.port = 0
        """Where clients connect to; it stays the same."""
        self.cuts = 0
        """How often `cut_after` has cut."""
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        """How many bytes have been passed on, each way."""

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let so many more bytes pass this way, over all lines together, and then cut all lines.

        It cuts once; after 0 bytes means at the next byte. New lines work.
        """
        self._left = {direction: count}

    def drop(self) -> None:
        """Cut all lines now; new ones work."""
        for line in self._lines:
            line.cancel()

    def stall(self) -> None:
        """Pass nothing on, either way, until `resume`; clients can still connect."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def resume(self) -> None:
        """Pass on what was held back, and go on."""
        self._flowing.set()

    async def refuse(self) -> None:
        """Refuse new connections, as a host does on which no server listens; lines stay."""
        if self._listening is not None:
            self._listening.cancel()
            await self._refusing.wait()

    async def accept(self) -> None:
        """Take new connections again."""
        if self._listening is None:
            await self._tasks.start(self._listen)

    async def heal(self) -> None:
        """Take back what was asked for: no cut is due, nothing stalls, nothing is refused."""
        self._left.clear()
        self.resume()
        await self.accept()

    async def _listen(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        listener = await anyio.create_tcp_listener(local_host=_LOOPBACK, local_port=self.port)
        self._refusing = anyio.Event()
        try:
            with anyio.CancelScope() as self._listening:
                async with listener:
                    self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
                    task_status.started()
                    # The lines belong to the proxy, not to the listener: they outlive it.
                    await listener.serve(self._serve, self._tasks)
        finally:
            self._listening = None
            self._refusing.set()

    async def _serve(self, client: SocketStream) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            with anyio.CancelScope() as line:
                self._lines.add(line)
                stack.callback(self._lines.discard, line)
                try:
                    server = await _connect(self._target)
                except OSError:
                    return  # a server that is down: the client sees the end of the line
                await stack.enter_async_context(server)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pass_on, client, server, "to_server", line)
                    tasks.start_soon(self._pass_on, server, client, "to_client", line)

    async def _pass_on(
        self,
        source: ByteStream,
        sink: ByteStream,
        direction: Direction,
        line: anyio.CancelScope,
    ) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive(_CHUNK)
                await self._flowing.wait()
                left = self._left.get(direction)
                if left is not None and len(data) >= left:
                    del self._left[direction]
                    self.cuts += 1
                    await self._send(sink, data[:left], direction)
                    self.drop()
                    return
                if left is not None:
                    self._left[direction] = left - len(data)
                await self._send(sink, data, direction)
        line.cancel()  # a line whose one half has ended has ended

    async def _send(self, sink: ByteStream, data: bytes, direction: Direction) -> None:
        if data:
            self.passed[direction] += len(data)  # first: who gets them may look at once
            await sink.send(data)


@asynccontextmanager
async def open_proxy(target: Address) -> AsyncGenerator[Proxy, None]:
    """Open a proxy in front of a server."""
    async with anyio.create_task_group() as tasks:
        proxy = Proxy(target, tasks)
        await proxy.accept()
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()


async def _connect(target: Address) -> ByteStream:
    if isinstance(target, str):
        return await anyio.connect_unix(target)
    return await anyio.connect_tcp(*target)
