"""A proxy on loopback that drops, stalls, silences or refuses connections to a server.

It knows no protocol: a test says at which bytes something happens, or how answers are changed.
"""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Final, Literal, TypeAlias

import anyio

from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup


Address: TypeAlias = tuple[str, int] | str
"""Where a server listens: a host and a port, or the path of a Unix socket."""

Direction: TypeAlias = Literal["to_server", "to_client"]

Loss: TypeAlias = Literal["request", "answer"]

_LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 65536
_NO_LINGER: Final = pack("ii", 1, 0)  # what is not sent is lost, and the end is a reset


@dataclass
class _Marked:
    """At which requests a connection is to be dropped."""

    marker: bytes
    what: Loss
    times: int
    then_refuse: bool
    before: Callable[[], Awaitable[None]] | None


@dataclass(eq=False)
class _Line:
    """A connection that is passed on."""

    client: SocketStream
    is_silent: bool
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    loses_answer: bool = False
    tail: bytes = b""
    """The end of what the client has sent, which may be the begin of a marker."""


class Proxy:
    """Passes bytes on, until a test asks for something else.

    A connection that is cut ends as if the process at its other end had died: what was passed on
    before arrives, and then comes the end.
    """

    def __init__(self, target: Address, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._listening: anyio.CancelScope | None = None
        self._refusing = anyio.Event()
        self._lines: set[_Line] = set()
        self._left: dict[Direction, int] = {}
        self._silent_after: dict[Direction, int] = {}
        self._marked: _Marked | None = None
        self._is_silent = False
        self._flowing = anyio.Event()
        self._flowing.set()
        self.target = target
        """Where new connections lead; a test may change it, as a failover does."""
        self.edit_answer: Callable[[bytes], bytes] | None = None
        """Returns what clients are sent in place of a piece of an answer."""
        self.host: Final = _LOOPBACK
        """Where clients connect to."""
        self.port = 0
        """Where clients connect to; it stays the same."""
        self.connections = 0
        """How many clients have connected so far."""
        self.cuts = 0
        """How often `cut_after` and `lose` have dropped connections."""
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        """How many bytes have been passed on, each way."""

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let so many more bytes pass this way, over all connections together, and then drop all.

        It does so once; after 0 bytes means at the next byte. New connections work.
        """
        self._left = {direction: count}

    def lose(
        self,
        marker: bytes,
        what: Loss,
        *,
        times: int = 1,
        then_refuse: bool = False,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Drop a connection at a request that holds some bytes, as often as is said.

        Args:
            marker: What the request holds.
            what: What gets lost: the request, or else the answer to it.
            times: How often.
            then_refuse: Whether all other connections are dropped with it, and new ones refused.
            before: Awaited before the connection drops, for a lost answer when the server has
                sent it; it may call `drop`.
        """
        self._marked = _Marked(marker, what, times, then_refuse, before)

    @property
    def losses_due(self) -> int:
        """How often `lose` has still to drop a connection."""
        return 0 if self._marked is None else self._marked.times

    def silence(self, *, new: bool = True) -> None:
        """Pass nothing on any more, either way, and close nothing, as a host that has vanished.

        Clients can still connect. What comes is lost, and connections that were silent stay so.

        Args:
            new: Whether new connections are silent, too, until `heal`.
        """
        self._is_silent = new
        for line in self._lines:
            line.is_silent = True

    def silence_after(self, count: int, direction: Direction) -> None:
        """Let so many more bytes pass this way, over all connections together, then be silent."""
        self._silent_after = {direction: count}

    def drop(self, *, reset: bool = False) -> None:
        """Drop all connections now; new ones work.

        Args:
            reset: Whether clients are sent a reset, as from a host that has forgotten them, and
                not an orderly end.
        """
        for line in self._lines:
            if reset:
                socket = line.client.extra(SocketAttribute.raw_socket)  # noqa: S610  # not Django's
                socket.setsockopt(SOL_SOCKET, SO_LINGER, _NO_LINGER)
            line.scope.cancel()

    def stall(self) -> None:
        """Pass nothing on, either way, until `resume`; clients can still connect."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def resume(self) -> None:
        """Pass on what was held back, and go on."""
        self._flowing.set()

    async def refuse(self) -> None:
        """Refuse new connections, as a host does on which no server listens; open ones stay."""
        if self._listening is not None:
            self._listening.cancel()
            await self._refusing.wait()

    async def accept(self) -> None:
        """Take new connections again."""
        if self._listening is None:
            await self._tasks.start(self._listen)

    async def heal(self) -> None:
        """Undo what was asked for: nothing is due to drop, nothing stalls, nothing is refused."""
        self._left.clear()
        self._silent_after.clear()
        self._marked = None
        self._is_silent = False
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
        self.connections += 1
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            line = _Line(client, self._is_silent)
            with line.scope:
                self._lines.add(line)
                stack.callback(self._lines.discard, line)
                try:
                    server = await _connect(self.target)
                except OSError:
                    return  # a server that is down: the client sees the end of the line
                await stack.enter_async_context(server)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pass_on, client, server, "to_server", line)
                    tasks.start_soon(self._pass_on, server, client, "to_client", line)

    async def _pass_on(
        self, source: ByteStream, sink: ByteStream, direction: Direction, line: _Line
    ) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive(_CHUNK)
                await self._flowing.wait()
                if line.is_silent:
                    continue
                if self._is_lost(data, direction, line):
                    await self._cut_marked(line)
                    return
                if self.edit_answer is not None and direction == "to_client":
                    data = self.edit_answer(data)
                due = self._due(data, direction)
                await self._send(sink, data[:due], direction)
                if due is not None and not line.is_silent:
                    self.drop()
                    return
        if line.is_silent:
            return  # one end has given up; the other does not learn of it
        line.scope.cancel()  # a line whose one half has ended has ended

    def _due(self, data: bytes, direction: Direction) -> int | None:
        """Return after how many of these bytes it cuts or falls silent; None if it does not."""
        for limits in (self._left, self._silent_after):
            left = limits.get(direction)
            if left is not None and len(data) >= left:
                del limits[direction]
                if limits is self._left:
                    self.cuts += 1
                else:
                    self.silence()
                return left
            if left is not None:
                limits[direction] = left - len(data)
        return None

    def _is_lost(self, data: bytes, direction: Direction, line: _Line) -> bool:
        """Return whether the connection is to be dropped before these bytes are passed on."""
        if direction == "to_client":
            return line.loses_answer
        if (marked := self._marked) is None or marked.times == 0:
            return False
        line.tail += data
        found = marked.marker in line.tail
        line.tail = b"" if found else line.tail[-len(marked.marker) :]
        if not found:
            return False
        marked.times -= 1
        line.loses_answer = marked.what == "answer"
        return not line.loses_answer

    async def _cut_marked(self, line: _Line) -> None:
        self.cuts += 1
        if (marked := self._marked) is not None:
            if marked.before is not None:
                await marked.before()
            if marked.then_refuse:
                await self.refuse()
                self.drop()
        line.scope.cancel()

    async def _send(self, sink: ByteStream, data: bytes, direction: Direction) -> None:
        if data:
            self.passed[direction] += len(data)  # first: their receiver may check at once
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
    if not isinstance(target, str):
        return await anyio.connect_tcp(*target)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await anyio.connect_unix(target)
    return _UnixStream(*await asyncio.open_unix_connection(target))


class _UnixStream(ByteStream):
    """A Unix socket on asyncio.

    That of anyio raises in a callback of the event loop if it is cancelled as data arrive.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        try:
            data = await self._reader.read(max_bytes)
        except OSError as exc:
            raise anyio.BrokenResourceError from exc
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        try:
            self._writer.write(item)
            await self._writer.drain()
        except OSError as exc:
            raise anyio.BrokenResourceError from exc

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
