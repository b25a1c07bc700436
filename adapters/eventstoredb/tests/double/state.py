"""The state of a double, and what a test may do to it."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar

from adapters.eventstoredb.tests.double.database import Database
from adapters.eventstoredb.tests.double.stubs import grpc, v2
from adapters.eventstoredb.tests.double.versions import RULES, Rules, Version


T = TypeVar("T")

Kind: TypeAlias = Literal[
    "drop-before", "drop-after", "drop-late", "slow", "not-leader", "denied", "refused"
]
"""What may go wrong with a call.

``drop-before``: the call fails and nothing was done. ``drop-after``: it was done, but the answer
is lost. ``drop-late``: the answer is lost first, and it is done a moment later. ``slow``: it is
done after `Double.slowness` seconds. ``not-leader``: another node must be asked. ``denied``: the
caller lacks the right. ``refused``: the request is none, as protocol v2 says it.
"""

LATENESS: Final = 0.2


class Abort(Exception):  # noqa: N818  # it is what ends a call
    """The arguments with which gRPC ends a call."""


def _lost() -> Abort:
    return Abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


@dataclass
class Fault:
    """Something that goes wrong with the next calls of a method."""

    kind: Kind
    method: str
    """Such as ``BatchAppend``; ``*`` for all."""
    times: int = 1


@dataclass
class Double:
    """A server, and what a test may do to it."""

    version: Version = "26.1"
    database: Database = field(default_factory=Database)
    faults: list[Fault] = field(default_factory=list[Fault])
    frozen: set[str] = field(default_factory=set[str])
    """The methods that are not answered any more; ``*`` for all."""
    calls: list[str] = field(default_factory=list[str])
    """The methods that were called, in order."""
    slowness: float = 0.3
    held: set[str] = field(default_factory=set)
    """Streams whose appends are carried out, and not answered until a test takes them out."""
    lag: float = 0
    """For how many seconds an event that was written cannot be read; it is not acknowledged yet."""
    commit_timeout: float = 0.5
    """After how many seconds an append that was dropped, since the same is in flight, is ended."""
    remembered_ids: int = 100_000
    """Of how many events the ids are known to appends with `any`."""
    leader_port: int = 0
    port: int = 0
    in_flight: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    _committed: asyncio.Event = field(default_factory=asyncio.Event)
    late: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """What will be done although its answer was lost."""

    def __post_init__(self) -> None:
        self.reset()

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"esdb://127.0.0.1:{self.port}?Tls=false"

    @property
    def rules(self) -> Rules:
        """What this version of the server does."""
        return RULES[self.version]

    def reset(self) -> None:
        """Forget everything."""
        self.database = Database(
            max_append_size=self.rules.max_append_size,
            remembered_ids=self.remembered_ids,
            answers_empty_on_tombstone=self.rules.empty_on_tombstone,
        )
        self.faults.clear()
        self.calls.clear()
        self.frozen.clear()

    def attend(self) -> None:
        """Let subscriptions know of each commit from now on."""
        self.database.on_commit = self._wake
        self._wake()

    def _wake(self) -> None:
        self._committed.set()
        self._committed = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next commit."""
        await self._committed.wait()

    async def meet(self, method: str, context: Any) -> Fault | None:
        """Do what `face` does, and end the call if it fails."""
        try:
            return await self.face(method)
        except Abort as exc:
            await context.abort(*exc.args)
            raise

    async def do(self, fault: Fault | None, context: Any, work: Callable[[], T]) -> T:
        """Do what `perform` does, and end the call if it fails."""
        try:
            return await self.perform(fault, work)
        except Abort as exc:
            await context.abort(*exc.args)
            raise

    async def face(self, method: str) -> Fault | None:
        """Note a call, and fail it here if that is its fate; return what is to go wrong later."""
        self.calls.append(method)
        while self.frozen & {method, "*"}:  # noqa: ASYNC110  # a test changes it at any time
            await asyncio.sleep(0.02)
        for fault in self.faults:
            if fault.times > 0 and fault.method in {method, "*"}:
                fault.times -= 1
                break
        else:
            return None
        match fault.kind:
            case "drop-before":
                raise _lost()
            case "denied":
                trailers = (("exception", "access-denied"),)
                raise Abort(grpc.StatusCode.PERMISSION_DENIED, "Access Denied", trailers)
            case "refused":
                raise Abort(*v2.rich("INVALID_ARGUMENT", "The request is invalid: because."))
            case "not-leader":
                leader = (
                    ("leader-endpoint-host", "127.0.0.1"),
                    ("leader-endpoint-port", str(self.leader_port)),
                )
                raise Abort(grpc.StatusCode.NOT_FOUND, "Leader info available", leader)
            case _:
                return fault

    async def perform(self, fault: Fault | None, work: Callable[[], T]) -> T:
        """Do what a call asks for, unless its answer is to be lost."""
        kind = fault.kind if fault is not None else None
        if kind == "slow":
            await asyncio.sleep(self.slowness)
        if kind == "drop-late":

            async def late() -> None:
                await asyncio.sleep(LATENESS)
                work()

            task = asyncio.create_task(late())
            self.late.add(task)
            task.add_done_callback(self.late.discard)
            raise _lost()
        async with self._indexing():
            result = work()
        if kind == "drop-after":
            raise _lost()
        return result

    @asynccontextmanager
    async def _indexing(self) -> AsyncGenerator[None]:
        """Let reads see what is written only a moment later."""
        database, before = self.database, self.database.end
        if self.lag and database.horizon is None:
            database.horizon = before
        yield
        after = database.end
        if self.lag and after > before:
            await asyncio.sleep(self.lag)
            database.horizon = None if after == database.end else after
