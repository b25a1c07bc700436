"""A store behind a socket: a server over the engine in memory, its client, and a harness for both.

Requests and answers are pickles, each after its length. The server identifies its clients by name
and serves only the newest connection of each, so that what an old one had still on the wire comes
to nothing. What became of a lost commit is found by the ids of its events.
"""

from __future__ import annotations

import pickle

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar, Final, TypeAlias
from uuid import uuid4

import anyio

from anyio.abc import SocketAttribute, SocketStream, TaskGroup, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

from eventport import Capability, ConfigurationError, NewEvent, PayloadTooLargeError
from eventport.adapter import (
    AllPage,
    AllQuery,
    AnswerLostError,
    Commit,
    Committed,
    ConnectionLostError,
    Outcome,
    Store,
    StreamPage,
    StreamQuery,
    Written,
)

from eventport_conformance import Capabilities, Harness, Supported, Unsupported
from eventport_memory.engine import MemoryEngine


LOOPBACK: Final = "127.0.0.1"

LARGEST: Final = 2_000_000
"""How many bytes an event may hold at most."""

LOST: Final = (
    OSError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)
"""What is raised if a connection cannot be made, or has dropped."""


class Hello(Struct):
    """The first request on a connection: who is there."""

    client: str


class Write(Struct):
    """Write a batch of commits."""

    commits: list[Commit]


class Find(Struct):
    """Return which commits of a batch were written after a position."""

    commits: list[Commit]
    after: int


class Refusal(Struct):
    """The answer of a server that will not do it."""

    reason: str


Request: TypeAlias = Hello | Write | Find | StreamQuery | AllQuery


class Disk(MemoryEngine):
    """What survives the server's death, as a disk would."""

    async def find(self, commit: Commit, after: int) -> Committed | None:
        """Find a commit after a position by the ids of the first events of its writes."""
        written: list[Written] = []
        for write in commit.writes:
            for event in (await self.read_stream(StreamQuery(write.stream))).events:
                if event.id == write.events[0].id and event.position > after:
                    break
            else:
                return None
            last = event.version + len(write.events) - 1
            query = StreamQuery(write.stream, event.version, last)
            stored = (await self.read_stream(query)).events
            positions, times = zip(
                *((one.position, one.recorded_at) for one in stored), strict=True
            )
            written.append(Written(last, positions, event.version == 1, times))
        return Committed(written)


class Server:
    """Serves one disk, until it is killed."""

    disk_class: ClassVar[type[Disk]] = Disk

    def __init__(self, tasks: TaskGroup) -> None:
        self.disk = self.disk_class()
        self.port = 0
        self._tasks = tasks
        self._running: anyio.CancelScope | None = None
        self._ended = anyio.Event()
        self._newest: dict[str, SocketStream] = {}
        self.flowing = anyio.Event()
        self.flowing.set()
        self.refused: tuple[type[Request], ...] = ()
        """The kinds of requests that it refuses for now."""

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
                    await self.flowing.wait()
                    if isinstance(request, Hello):
                        client = request.client
                        self._newest[client] = stream
                    elif self._newest.get(client) is not stream:
                        return
                    await frames.send(await self._answer(request))

    async def _answer(self, request: Request) -> Any:
        if isinstance(request, self.refused):
            return Refusal("read-only" if isinstance(request, Write) else "denied")
        match request:
            case Hello():
                return None
            case Write(commits):
                return await self.disk.commit(commits)  # without an await of its own
            case Find(commits, after):
                return [await self.disk.find(commit, after) for commit in commits]
            case StreamQuery():
                return await self.disk.read_stream(request)
            case AllQuery():
                return await self.disk.read_all(request)


class Frames:
    """Values on a socket, each after its length."""

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
        """Close the socket at once, without waiting for the other side."""
        await anyio.aclose_forcefully(self._stream)


class SocketEngine:
    """The client, a `Remote` engine. It has one connection, and makes a new one when that drops."""

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.SHARED,
            Capability.DURABLE,
            Capability.TIMES,
        }
    )
    limitations: Mapping[Capability, str] = {
        Capability.PUSH: "the server speaks only when it is asked",
        Capability.CATALOGUE: "it has no list",
    }
    timeout = 5.0

    def __init__(self, host: str, port: int) -> None:
        self.name = f"port {port}"
        self.client = str(uuid4())
        self.address = (host, port)
        self.frames: Frames | None = None
        self.turn = anyio.Lock()
        self.last = 0
        """The last position that it has written at, as far as it knows."""

    async def ask(self, request: Request) -> Any:
        """Send one request and wait for its answer.

        Raises:
            ConnectionLostError: the connection dropped before the request was sent.
            AnswerLostError: it dropped later.
        """
        error = ConnectionLostError
        async with self.turn:
            try:
                if self.frames is None:
                    self.frames = Frames(await anyio.connect_tcp(*self.address))
                    await self.frames.send(Hello(self.client))
                    await self.frames.receive()
                error = AnswerLostError
                await self.frames.send(request)
                return self.checked(await self.frames.receive())
            except LOST as exc:
                await self.forget()
                message = f"{self.name}: the connection dropped"
                raise error(message) from exc
            except BaseException:
                await self.forget()
                raise

    def checked(self, answer: Any) -> Any:
        """Return an answer, or raise the error for a refusal."""
        if not isinstance(answer, Refusal):
            return answer
        if answer.reason == "read-only":
            message = f"{self.name} takes no writes"
            raise ConnectionLostError(message)
        message = f"{self.name} refuses a question"
        raise ConfigurationError(message)

    async def forget(self) -> None:
        """Close the connection: an answer may be on it that no one waits for."""
        frames, self.frames = self.frames, None
        if frames is not None:
            with anyio.CancelScope(shield=True):
                await frames.aclose()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        if any(len(e.data) > LARGEST for one in batch for w in one.writes for e in w.events):
            message = f"an event of the batch is larger than {LARGEST:,} bytes"
            raise PayloadTooLargeError(message)
        outcomes: Sequence[Outcome] = await self.ask(Write(list(batch)))
        self.note(outcomes)
        return outcomes

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        found: Sequence[Committed | None] = await self.ask(Find(list(commits), self.last))
        self.note(found)
        return found

    def note(self, outcomes: Sequence[Outcome | None]) -> None:
        """Note the last position of what was written."""
        for outcome in outcomes:
            if isinstance(outcome, Committed) and not outcome.deduplicated:
                self.last = max(self.last, outcome.writes[-1].positions[-1] or 0)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        page: StreamPage = await self.ask(query)
        return page

    async def read_all(self, query: AllQuery, /) -> AllPage:
        page: AllPage = await self.ask(query)
        return page

    async def close(self) -> None:
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
        guards=Unsupported("it checks only the streams that it writes"),
        conditions=Unsupported("it has no index"),
        times=Supported(),
        catalogue=Unsupported("it has no list"),
        hooks=Supported(),
    )
    absent: ClassVar[Any] = {"url": "the server lives in the process of the tests"}
    engine: ClassVar[type[SocketEngine]] = SocketEngine
    store: ClassVar[type[Store]] = Store
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
        async with Store(SocketEngine(*self.address())) as store:
            yield store

    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.running.port

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[Any, None]:
        async with self.store(self.engine(host, port)) as store:
            yield store

    def refused_event(self) -> NewEvent:
        return NewEvent("Large", bytes(LARGEST + 1))

    async def restart(self) -> None:
        await self.running.kill()
        await self.running.start()

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[None, None]:
        self.running.flowing = anyio.Event()
        yield
        self.running.flowing.set()

    def troubles(self) -> Mapping[str, Callable[[], AbstractAsyncContextManager[None]]]:
        return {
            "denied": lambda: self.refusing(Find, StreamQuery, AllQuery),
            "slow": self.frozen,
        }

    def read_only(self) -> AbstractAsyncContextManager[None]:
        return self.refusing(Write)

    @asynccontextmanager
    async def refusing(self, *kinds: type[Request]) -> AsyncGenerator[None, None]:
        self.running.refused = kinds
        yield
        self.running.refused = ()
