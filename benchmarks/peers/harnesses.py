"""Peers' stores, put through the suite: each as its documentation has it set up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from eventsource.adapters.memory.store import InMemoryEventStore
from eventsource.adapters.sqlite.store import SQLiteEventStore
from eventsource_engine import REGISTRY, EventsourceEngine
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from eventsourcing_engine import RecorderEngine

from eventport import Capability, EventStore
from eventport.adapter import Store

from eventport_conformance import Capabilities, Harness


_KEPT: Final = frozenset({Capability.SHARED, Capability.DURABLE})
_COMMON: Final = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
_LIMITS: Final = {
    Capability.PUSH: "its recorders are polled",
    Capability.SHARED: "its events live in one object",
    Capability.DURABLE: "its events live in memory",
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


PEERS: Final[tuple[type[Harness], ...]] = (
    EventsourcingMemory,
    EventsourcingSQLite,
    EventsourceMemory,
    EventsourceSQLite,
)
