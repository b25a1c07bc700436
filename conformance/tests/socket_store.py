"""A store behind a socket: a server over the store in memory, its client, and a harness for both.

Requests and answers are pickles, each behind its length. The server knows its clients by name and
hears only the last connection of each, so that what an old one had still on the wire comes to
nothing. A batch that is sent again is first looked for by the ids of its events.
"""

from __future__ import annotations

import pickle

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias
from uuid import uuid4

import anyio

from anyio.abc import SocketAttribute, SocketStream, TaskGroup, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

from eventport import Capability, RecordedEvent, StoreUnavailableError
from eventport.adapter import (
    AllPage,
    BaseEventStore,
    Commit,
    Committed,
    Outcome,
    StreamPage,
    Written,
)

from eventport_conformance import Capabilities, Harness, Supported, Unsupported
from eventport_memory import MemoryEventStore


LOOPBACK: Final = "127.0.0.1"
TRIES: Final = 6
PAUSE: Final = 0.01
"""How long, in seconds, to wait before the second try; it doubles each time."""

LOST: Final = (
    OSError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)
"""What is raised if a connection cannot be made, or has been lost."""


class Hello(Struct):
    """The first request on a connection: who is there."""

    client: str


class Write(Struct):
    """Write a batch of commits."""

    commits: list[Commit]
    again: bool
    """Whether it may have been written before."""


class Read(Struct):
    """Read a page of a stream."""

    stream: str
    first: int
    last: int
    max_count: int | None
    backwards: bool


class ReadAll(Struct):
    """Read a page of all streams."""

    after: int
    max_count: int
    types: list[str] | None
    prefix: str | None


Request: TypeAlias = Hello | Write | Read | ReadAll


class Page(Struct):
    """A page of a stream (then the position is 0), or of all."""

    events: list[RecordedEvent]
    head: int
    position: int


class Engine(MemoryEventStore):
    """What survives the server's death, as a disk would."""

    async def write(self, batch: Write) -> list[Outcome]:
        """Write a batch, commit by commit, except for what is found to be there already."""
        return [
            (self.find(commit) if batch.again else None) or self._apply(commit)
            for commit in batch.commits
        ]

    def find(self, commit: Commit) -> Committed | None:
        """Find a commit by the ids of the first events of its writes."""
        written: list[Written] = []
        recorded_at: datetime | None = None
        for write in commit.writes:
            for stored in self._streams.get(write.stream, ()):
                if stored.event.id == write.events[0].id:
                    break
            else:
                return None
            more = len(write.events) - 1
            positions = range(stored.position, stored.position + more + 1)
            written.append(Written(stored.version + more, list(positions), stored.version == 1))
            recorded_at = stored.recorded_at
        return None if recorded_at is None else Committed(written, recorded_at)


class Server:
    """Serves one engine, until it is killed."""

    engine_class: ClassVar[type[Engine]] = Engine

    def __init__(self, tasks: TaskGroup) -> None:
        self.engine = self.engine_class()
        self.port = 0
        self._tasks = tasks
        self._running: anyio.CancelScope | None = None
        self._ended = anyio.Event()
        self._heard: dict[str, SocketStream] = {}

    async def start(self) -> None:
        """Listen, on the same port each time."""
        await self._tasks.start(self._run)

    async def kill(self) -> None:
        """End with all connections, in the middle of whatever is going on."""
        if self._running is not None:
            self._running.cancel()
            await self._ended.wait()

    async def _run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        listener = await anyio.create_tcp_listener(local_host=LOOPBACK, local_port=self.port)
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as self._running:
                async with listener:
                    self.port = listener.extra(SocketAttribute.local_port)
                    task_status.started()
                    await listener.serve(self._serve)
        finally:
            self._running = None
            self._ended.set()

    async def _serve(self, stream: SocketStream) -> None:
        client = ""
        frames = Frames(stream)
        async with stream:
            with suppress(*LOST):
                while True:
                    request = await frames.receive()
                    if isinstance(request, Hello):
                        client = request.client
                        self._heard[client] = stream
                    elif self._heard.get(client) is not stream:
                        return
                    await frames.send(await self._answer(request))

    async def _answer(self, request: Request) -> Any:
        engine = self.engine
        match request:
            case Hello():
                return None
            case Write():
                return await engine.write(request)
            case Read(stream, first, last, max_count, backwards):
                page = await engine.read_page(stream, first, last, max_count, backwards=backwards)
                return Page(list(page.events), page.version, 0)
            case ReadAll(after, max_count, types, prefix):
                chosen = None if types is None else frozenset(types)
                found = await engine.read_all_page(after, max_count, chosen, prefix)
                return Page(list(found.events), found.head, found.position)


class Frames:
    """Values on a socket, each behind its length."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def send(self, value: Any) -> None:
        """Send one value."""
        raw = pickle.dumps(value)
        await self._stream.send(len(raw).to_bytes(4, "big") + raw)

    async def receive(self) -> Any:
        """Wait for one value."""
        size = int.from_bytes(await self._received.receive_exactly(4), "big")
        return pickle.loads(await self._received.receive_exactly(size))

    async def aclose(self) -> None:
        """Close the socket, without a word."""
        await anyio.aclose_forcefully(self._stream)


class SocketStore(BaseEventStore):
    """The client. It has one connection, and makes a new one when that is lost."""

    capabilities = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.SHARED,
            Capability.DURABLE,
        }
    )
    max_poll_interval = 0.02

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.name = str(uuid4())
        self.address = (host, port)
        self.frames: Frames | None = None
        self.turn = anyio.Lock()

    async def ask(self, request: Request) -> Any:
        """Send one request and wait for its answer; a connection that was left is closed."""
        async with self.turn:
            try:
                if self.frames is None:
                    self.frames = Frames(await anyio.connect_tcp(*self.address))
                    await self.frames.send(Hello(self.name))
                    await self.frames.receive()
                await self.frames.send(request)
                return await self.frames.receive()
            except BaseException:
                await self.forget()
                raise

    async def forget(self) -> None:
        """Give a connection up: an answer may be on it that nobody waits for."""
        frames, self.frames = self.frames, None
        if frames is not None:
            with anyio.CancelScope(shield=True):
                await frames.aclose()

    async def ask_on(self, request: Request) -> Any:
        """Ask until there is an answer, but not for ever."""
        cause: Exception | None = None
        for number in range(TRIES):
            try:
                return await self.ask(request)
            except LOST as exc:
                cause = exc
                await anyio.sleep(PAUSE * 2**number)
                if isinstance(request, Write):
                    request = self.again(request)
        message = f"no answer from port {self.address[1]} in {TRIES} tries"
        raise StoreUnavailableError(message) from cause

    def again(self, request: Write) -> Write:
        """Turn a request to write into one that may have been written before."""
        return Write(request.commits, again=True)

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        """Write a batch."""
        outcomes: list[Outcome] = await self.ask_on(Write(list(commits), again=False))
        return outcomes

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await self.write(commits)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        page = await self.ask_on(Read(stream, first, last, max_count, backwards))
        return StreamPage(page.events, page.head)

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        chosen = None if types is None else list(types)
        page = await self.ask_on(ReadAll(after, max_count, chosen, prefix))
        return AllPage(page.events, page.position, page.head)

    async def _close(self) -> None:
        await self.forget()


class SocketHarness(Harness):
    """Runs the server in a task beside the test."""

    name = "socket"
    backends = ("asyncio", "trio")
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("the server speaks only when it is asked"),
        shared=Supported(),
        durable=Supported(),
        hooks=Supported(),
    )
    absent: ClassVar[Any] = {"url": "the server lives in the process of the tests"}
    store: ClassVar[type[Any]] = SocketStore
    server_class: ClassVar[type[Server]] = Server

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Any, None]:
        async with anyio.create_task_group() as tasks:
            self.running = self.server_class(tasks)
            await self.running.start()
            async with self.second_client() as store:
                yield store
            await self.running.kill()

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[Any, None]:
        async with SocketStore(*self.address()) as store:
            yield store

    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.running.port

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[Any, None]:
        async with self.store(host, port) as store:
            yield store

    async def restart(self) -> None:
        await self.running.kill()
        await anyio.sleep(0.02)
        await self.running.start()
