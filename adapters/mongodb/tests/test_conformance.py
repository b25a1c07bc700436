"""The store in MongoDB is conformant with each driver, and on a server that stands alone."""

from __future__ import annotations

import os
import time

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest

from adapters.mongodb.tests.servers import (
    URL_VARIABLE,
    Server,
    at_port,
    new_database,
    with_options,
)
from anyio import to_thread
from pymongo import AsyncMongoClient, MongoClient

from eventport import EventStore, NewEvent
from eventport.adapter import Store
from eventport.projections import CheckpointStore, open_checkpoints
from eventport.snapshot_stores import SnapshotStore, StreamSnapshotStore

from eventport_conformance import Capabilities, Harness, conformance
from eventport_conformance.hard import without_polling
from eventport_conformance.harness import Hook
from eventport_conformance.notes import DocumentNotes, Notes
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName, settled


IS_OUR_SERVER = URL_VARIABLE not in os.environ

ABSENT: Final[Mapping[Hook, str]] = {
    "delete_stream": "its events are never removed",
    "truncate_stream": "its events are never removed",
    "read_only": "a server that takes no writes is a secondary, and tests of its own meet it",
}

ODD: Final = {
    "readPreference": "secondaryPreferred",
    "readConcernLevel": "available",
    "w": 1,
    "retryWrites": "false",
    "retryReads": "false",
    "tz_aware": "true",
    "uuidRepresentation": "javaLegacy",
    "unicode_decode_error_handler": "replace",
    "compressors": "zlib",
}
"""Settings of a client, none of which may change what is stored."""


class PyMongoHarness(Harness):
    name = "mongodb"
    capabilities = Capabilities.only(
        "sessions",
        "global_order",
        "push",
        "shared",
        "durable",
        "guards",
        "conditions",
        "times",
        "catalogue",
        "hooks",
    )
    absent = ABSENT
    driver: ClassVar[DriverName] = "pymongo"
    server_url: ClassVar[str]
    own_server: ClassVar[Server]
    database_url = ""

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        return open_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:
        return StreamSnapshotStore(store)

    @asynccontextmanager
    async def using(
        self,
        store: EventStore,
        commits: bool,  # as the hook
    ) -> AsyncGenerator[EventStore, None]:
        assert isinstance(store, MongoDBEventStore)
        client: Any = store._mongodb.log.client
        session: Any = await settled(client.start_session())
        try:
            await settled(session.start_transaction())
            yield store.using(session)
            if session.in_transaction:  # one that a cancelled append has aborted is over
                await (session.commit_transaction() if commits else session.abort_transaction())
        finally:
            await settled(session.end_session())

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[MongoDBEventStore, None]:
        async with new_database(self.server_url) as self.database_url, self.second_client() as one:
            yield one

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[MongoDBEventStore, None]:
        opening = MongoDBEventStore.connect(self.database_url, driver=self.driver)
        async with await opening as store:
            yield store

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[Store, None]:
        async with self.second_client() as store, without_polling(store) as quiet:
            yield quiet

    def url(self) -> str:
        return with_options(self.database_url, driver=self.driver)

    def refused_event(self) -> NewEvent:
        return NewEvent("Large", bytes(17 * 1024 * 1024))  # a document has at most 16 MiB

    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.database_url)
        return parts.hostname or "localhost", parts.port or 27017

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[MongoDBEventStore, None]:
        there = at_port(self.database_url, port, host)
        async with await MongoDBEventStore.connect(there, driver=self.driver, timeout=5) as store:
            yield store

    @asynccontextmanager
    async def slow_clock(self) -> AsyncGenerator[None, None]:
        real = time.time_ns
        with patch("time.time_ns", lambda: real() - 3_600 * 10**9):
            yield

    @asynccontextmanager
    async def odd_client(self) -> AsyncGenerator[MongoDBEventStore, None]:
        odd = with_options(self.database_url, **ODD)
        async with await MongoDBEventStore.connect(odd, driver=self.driver) as store:
            yield store

    if IS_OUR_SERVER:

        @asynccontextmanager
        async def frozen(self) -> AsyncGenerator[None, None]:
            self.own_server.freeze()
            try:
                yield
            finally:
                self.own_server.thaw()

        def troubles(self) -> Mapping[str, Callable[[], AbstractAsyncContextManager[None]]]:
            return {
                "not authorized": partial(self.failing, errorCode=13),
                "time-out": partial(self.failing, errorCode=50),
                "interrupted": partial(self.failing, errorCode=11601),
                "closed": partial(self.failing, closeConnection=True),
            }

        @asynccontextmanager
        async def failing(self, **how: object) -> AsyncGenerator[None, None]:
            """Let commands fail that read or write."""
            data = {"failCommands": ["find", "aggregate", "insert"], **how}
            async with AsyncMongoClient[Any](self.server_url) as client:
                await client.admin.command(
                    {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data}
                )
                try:
                    yield
                finally:
                    await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

        async def restart(self) -> None:
            await to_thread.run_sync(self.own_server.kill)
            await to_thread.run_sync(self.own_server.start)
    else:
        absent = {**ABSENT, "restart": f"the server of {URL_VARIABLE} is not ours to kill"}


class MotorHarness(PyMongoHarness):
    name = "mongodb-motor"
    driver = "motor"


class StandaloneHarness(PyMongoHarness):
    name = "mongodb-standalone"
    absent = {
        **ABSENT,
        **dict.fromkeys(
            ("inline_notes", "using"), "a server that stands alone has no transactions"
        ),
    }
    capabilities = Capabilities.only(
        "global_order", "shared", "durable", "guards", "conditions", "times", "catalogue", "hooks"
    )


@pytest.fixture(scope="module", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """Start servers that no other process uses, because clauses kill them."""
    folder = tmp_path_factory.mktemp("conformance")
    with ExitStack() as stack:
        for harness, replicated in ((PyMongoHarness, True), (StandaloneHarness, False)):
            if IS_OUR_SERVER or not replicated:
                harness.own_server = Server(folder / harness.name, replicated=replicated)
                harness.own_server.start()
                stack.callback(harness.own_server.kill)
                harness.server_url = harness.own_server.url
            else:
                harness.server_url = os.environ[URL_VARIABLE]
            harness.server = name_of_server(harness.server_url)
        yield


def name_of_server(url: str) -> str:
    with MongoClient[Any](url) as client:
        info = client.server_info()
    ours = f"SecantusDB {info['secantusVersion']}, as " if "secantusVersion" in info else ""
    return f"{ours}MongoDB {info['version']}"


TestPyMongo = conformance(PyMongoHarness)
TestMotor = conformance(MotorHarness)
TestStandalone = conformance(StandaloneHarness)
