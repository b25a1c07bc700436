"""Peers' stores, put through the suite: each as its documentation has it set up."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from benchmarks.peers.eventsource_engine import REGISTRY, EventsourceEngine
from benchmarks.peers.eventsourcing_engine import RecorderEngine
from eventsource.adapters.memory.store import InMemoryEventStore
from eventsource.adapters.postgresql.store import PostgreSQLEventStore
from eventsource.adapters.sqlite.store import SQLiteEventStore
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from sqlalchemy.ext.asyncio import create_async_engine

from eventport import Capability, EventStore
from eventport.adapter import Store

from eventport_conformance import Capabilities, Harness


_KEPT: Final = frozenset({Capability.SHARED, Capability.DURABLE})
_COMMON: Final = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
_LIMITS: Final = {
    Capability.PUSH: "its recorders are polled",
    Capability.SHARED: "its events live in one object",
    Capability.DURABLE: "its events live in memory",
    Capability.GUARDS: "what it checks is the version of a stream",
    Capability.CONDITIONS: "what it checks is the version of a stream",
    Capability.TIMES: "the adapter records the times",
    Capability.CATALOGUE: "its recorders list no streams",
}


class EventsourcingMemory(Harness):
    """`eventsourcing`, plain Python objects."""

    name = "eventsourcing, in memory"
    capabilities = Capabilities.only("sessions", "global_order", "hooks")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new recorder."""
        async with Store(RecorderEngine(POPOApplicationRecorder(), _COMMON, _LIMITS)) as store:
            yield store


class EventsourcingSQLite(Harness):
    """`eventsourcing`, a file of SQLite."""

    name = "eventsourcing, SQLite"
    capabilities = Capabilities.only("sessions", "global_order", "shared", "durable", "hooks")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new file."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            self.path = Path(folder, "events.db")
            async with self.second_client() as store:
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        """Open another store on the file."""
        datastore = SQLiteDatastore(str(self.path), originator_id_type="text", lock_timeout=30)
        recorder = SQLiteApplicationRecorder(datastore)
        recorder.create_table()
        try:
            async with Store(RecorderEngine(recorder, _COMMON | _KEPT, _LIMITS)) as store:
                yield store
        finally:
            datastore.close()


class EventsourceMemory(Harness):
    """`eventsource-py`, in memory."""

    name = "eventsource-py, in memory"
    capabilities = Capabilities.only("global_order", "hooks")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new object."""
        store = InMemoryEventStore(event_registry=REGISTRY)
        async with Store(EventsourceEngine(store, frozenset({Capability.GLOBAL_ORDER}))) as opened:
            yield opened


class EventsourceSQLite(Harness):
    """`eventsource-py`, a file of SQLite."""

    name = "eventsource-py, SQLite"
    capabilities = Capabilities.only("global_order", "shared", "durable", "hooks")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new file."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            self.path = Path(folder, "events.db")
            async with self.second_client() as store:
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        """Open another store on the file."""
        store = SQLiteEventStore(str(self.path), event_registry=REGISTRY, store_id="one")
        engine = EventsourceEngine(store, _KEPT | {Capability.GLOBAL_ORDER})
        try:
            async with Store(engine) as opened:
                yield opened
        finally:
            await store.close()


PATIENCE: Final = 300.0
"""After how many seconds the connections of a clause are ended: a call that hangs ends by that."""


class OnPostgres(Harness):
    """Makes a database for each clause, on a server that whoever runs this has started."""

    server_url: ClassVar[str] = ""
    numbers = count()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new database."""
        self.database = f"peer_{next(self.numbers)}"
        connection = await asyncpg.connect(self.server_url)
        try:
            self.server = f"PostgreSQL {connection.get_server_version().major}"
            await connection.execute(f"CREATE DATABASE {self.database}")
            # In a thread, since what hangs may not be cancelled.
            guard = Timer(PATIENCE, lambda: asyncio.run(self._drop()))
            guard.start()
            try:
                async with self.second_client() as store:
                    yield store
            finally:
                guard.cancel()
                await self._drop()
        finally:
            await connection.close()

    async def _drop(self) -> None:
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        finally:
            await connection.close()


class EventsourcingPostgres(OnPostgres):
    """`eventsourcing`, PostgreSQL."""

    name = "eventsourcing, Postgres"
    capabilities = Capabilities.only("sessions", "global_order", "shared", "durable", "hooks")

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        """Open another store on the database."""
        parts = urlsplit(self.server_url)
        datastore = PostgresDatastore(
            dbname=self.database,
            host=parts.hostname or parse_qs(parts.query)["host"][0],
            port=parts.port or 5432,
            user=parts.username or "postgres",
            password=parts.password or "",
            pool_size=16,
            max_overflow=16,
            max_waiting=1_000,
            schema="public",
            originator_id_type="text",
        )
        try:
            recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
            recorder.create_table()
            async with Store(RecorderEngine(recorder, _COMMON | _KEPT, _LIMITS)) as store:
                yield store
        finally:
            datastore.close()


class EventsourcePostgres(OnPostgres):
    """`eventsource-py`, PostgreSQL."""

    name = "eventsource-py, Postgres"
    capabilities = Capabilities.only("global_order", "shared", "durable", "hooks")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store on a new database, whose tables are there before others come."""
        async with super().open() as store:
            await store.read("warm")
            yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        """Open another store on the database."""
        parts = urlsplit(self.server_url)
        url = parts._replace(scheme="postgresql+asyncpg", path=f"/{self.database}").geturl()
        connections = create_async_engine(url, pool_size=16, max_overflow=16)
        kept = PostgreSQLEventStore(connections, REGISTRY, store_id="one", create_schema=True)
        try:
            async with Store(EventsourceEngine(kept, _KEPT | {Capability.GLOBAL_ORDER})) as store:
                yield store
        finally:
            await connections.dispose()


PEERS: Final[tuple[type[Harness], ...]] = (
    EventsourcingMemory,
    EventsourcingSQLite,
    EventsourceMemory,
    EventsourceSQLite,
    EventsourcingPostgres,
    EventsourcePostgres,
)
