"""The store in EventStoreDB or KurrentDB is conformant, with the client that is installed."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import subprocess
import sys

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio

from adapters.eventstoredb.tests.double.database import LAST_REVISION
from adapters.eventstoredb.tests.double.stubs import KURRENT
from anyio import to_thread

from eventport import EventportError, EventStore, NewEvent
from eventport.adapter import Store
from eventport.projections import CheckpointStore, open_checkpoints
from eventport.snapshot_stores import SnapshotStore, StreamSnapshotStore

from eventport_conformance import (
    Capabilities,
    Harness,
    conformance,
)
from eventport_conformance.hard import without_polling
from eventport_eventstoredb import EventStoreDBEventStore


REAL_URL: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_URL", "")
EMPTY: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_EMPTY", "")
DOUBLE: Final = "adapters.eventstoredb.tests.double.server"
# What the server can do has to be said, and CAP-01 checks it: the double of the newer client's
# server commits several streams.
SESSIONS: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_SESSIONS", str(KURRENT)) == "True"
# KurrentDB checks streams that a commit does not write from 26.0.3 on.
GUARDS: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_GUARDS", str(SESSIONS)) == "True"


class DoubleProcess:
    """The double in a process of its own, emptied for each clause."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", DOUBLE, "26.1" if KURRENT else "23.10"],
            cwd=Path(__file__).parents[3],  # from where it is found
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)
        self.port = int(self._line())

    def empty(self) -> None:
        assert self._ask("empty") == "done\n"

    def do(self, *what: str | int) -> None:
        """Let it do something; see its script."""
        assert self._ask(json.dumps(what)) == "done\n"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def restart(self) -> None:
        assert int(self._ask("restart")) == self.port

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class EventStoreDBHarness(Harness):
    name = f"eventstoredb-{'kurrentdb' if KURRENT else 'esdb'}"
    absent = {
        "slow_clock": "its server records the times, and no one may set it",
        "read_only": "a server that takes no writes is a follower, and tests of its own meet it",
    }
    capabilities = Capabilities.only(
        *(("sessions",) if SESSIONS else ()),
        *(("guards",) if GUARDS else ()),
        "global_order",
        "push",
        "shared",
        "durable",
        "times",
        "hooks",
    )

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        return open_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:
        return StreamSnapshotStore(store)

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        async with await EventStoreDBEventStore.connect(self.url()) as store:
            yield store

    @asynccontextmanager
    async def odd_client(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        odd = f"{self.url()}&NodePreference=follower&KeepAliveInterval=10000&ConnectionName=odd"
        async with await EventStoreDBEventStore.connect(odd) as store:
            yield store

    def refused_event(self) -> NewEvent:
        return NewEvent("Large", bytes(17_000_000 if KURRENT else 1_100_000))

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[Store, None]:
        async with self.second_client() as store, without_polling(store) as quiet:
            yield quiet


class DoubleHarness(EventStoreDBHarness):
    server = "the double of its protocol"
    double: ClassVar[DoubleProcess]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        if not hasattr(DoubleHarness, "double"):
            DoubleHarness.double = DoubleProcess()
        self.double.empty()
        async with self.second_client() as store:
            yield store

    def url(self) -> str:
        return _url(*self.address())

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.double.port

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[EventStoreDBEventStore, None]:
        async with await EventStoreDBEventStore.connect(_url(host, port), timeout=5) as store:
            yield store

    async def restart(self) -> None:
        await to_thread.run_sync(self.double.restart)

    async def delete_stream(self, stream: str) -> None:
        await to_thread.run_sync(self.double.do, "truncate", stream, LAST_REVISION)

    async def truncate_stream(self, stream: str, before: int) -> None:
        await to_thread.run_sync(self.double.do, "truncate", stream, before - 1)

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[None, None]:
        self.double.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.double.signal(signal.SIGCONT)

    def troubles(self) -> Mapping[str, Callable[[], AbstractAsyncContextManager[None]]]:
        return {
            "refused reads": partial(self.fault, "denied", "Read"),
            "refused appends": partial(self.fault, "denied", "BatchAppend"),
            "refused login": partial(self.fault, "denied", "*"),
            "lost connections": partial(self.fault, "drop-before", "*"),
        }

    @asynccontextmanager
    async def fault(self, kind: str, method: str) -> AsyncGenerator[None, None]:
        await to_thread.run_sync(self.double.do, "fault", kind, method, 1_000_000)
        try:
            yield
        finally:
            await to_thread.run_sync(self.double.do, "fault", kind, method, 0)


class RealHarness(EventStoreDBHarness):
    absent = {
        **EventStoreDBHarness.absent,
        "address": "the client follows the addresses that a cluster reports, past any proxy",
        "open_at": "the client follows the addresses that a cluster reports, past any proxy",
        "restart": "the server belongs to others",
    }
    server = "a real server"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        await _empty_real_server()
        async with self.second_client() as store:
            yield store

    def url(self) -> str:
        return REAL_URL


def _url(host: str, port: int) -> str:
    return f"esdb://{host}:{port}?Tls=false"


async def _empty_real_server() -> None:
    """Run the command that empties the server, and wait until it answers again."""
    if not EMPTY:
        message = "EVENTPORT_TEST_EVENTSTOREDB_EMPTY must be a command that empties the server"
        raise RuntimeError(message)
    await anyio.run_process(shlex.split(EMPTY))
    while True:
        try:
            async with await EventStoreDBEventStore.connect(REAL_URL) as store:
                if (await store.read_all()).events:
                    message = f"{EMPTY} leaves events in the server"
                    raise RuntimeError(message)
                return
        except EventportError:
            await anyio.sleep(0.5)


TestEventStoreDB = conformance(RealHarness if REAL_URL else DoubleHarness)
