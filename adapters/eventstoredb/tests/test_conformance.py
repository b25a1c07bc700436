"""The store in EventStoreDB or KurrentDB is conformant, with the client that is installed."""

from __future__ import annotations

import atexit
import os
import shlex
import subprocess
import sys

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import EventportError

from eventport_conformance import (
    Capabilities,
    Harness,
    Supported,
    Unsupported,
    conformance,
)
from eventport_eventstoredb import EventStoreDBEventStore


REAL_URL: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_URL", "")
EMPTY: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_EMPTY", "")
SCRIPT: Final = Path(__file__).parent / "double" / "server.py"
# What the server can do has to be said, and CAP-01 checks it: the double of the newer client's
# server commits several streams.
SESSIONS: Final = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_SESSIONS", str(KURRENT)) == "True"


class DoubleProcess:
    """The double in a process of its own, emptied for each clause."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "26.1" if KURRENT else "24.10"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)
        self.url = f"esdb://127.0.0.1:{int(self._line())}?Tls=false"

    def empty(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._line() == "empty\n"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class EventStoreDBHarness(Harness):
    name = f"eventstoredb-{'kurrentdb' if KURRENT else 'esdb'}"
    capabilities = Capabilities(
        sessions=Supported()
        if SESSIONS
        else Unsupported("several streams in one commit take KurrentDB 25.1 and kurrentdbclient"),
        global_order=Supported(),
        push=Supported(),
        shared=Supported(),
        durable=Supported(),
        hooks=Supported(),
    )
    server = "a real server" if REAL_URL else "the double of its protocol"
    double: DoubleProcess | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        if REAL_URL:
            await _empty_real_server()
        else:
            self._double().empty()
        async with self.second_client() as store:
            yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStoreDBEventStore, None]:
        async with await EventStoreDBEventStore.connect(self.url()) as store:
            yield store

    def url(self) -> str:
        return REAL_URL or self._double().url

    @classmethod
    def _double(cls) -> DoubleProcess:
        if EventStoreDBHarness.double is None:
            EventStoreDBHarness.double = DoubleProcess()
        return EventStoreDBHarness.double


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


TestEventStoreDB = conformance(EventStoreDBHarness)
