"""The store in SQLite is conformant, on a file and in memory."""

from __future__ import annotations

import sqlite3
import time

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final
from unittest.mock import patch

from adapters.sqlite.tests.joining import caller_transaction

from eventport import EventStore, NewEvent, connect

from eventport_conformance import Capabilities, UrlHarness, conformance
from eventport_conformance.notes import DocumentNotes, Notes
from eventport_sqlite import SQLiteEventStore


LARGEST: Final = 20_000_000
"""How many bytes an event may hold at most: a limit that SQLite lets an application set."""


class FileHarness(UrlHarness):
    name, location = "sqlite", "sqlite:///{folder}/events.db"
    capabilities = Capabilities.only(
        "sessions",
        "global_order",
        "shared",
        "durable",
        "guards",
        "conditions",
        "times",
        "catalogue",
        "hooks",
    )
    server = f"SQLite {sqlite3.sqlite_version}"
    absent = {
        **dict.fromkeys(
            ("address", "open_at", "restart", "frozen", "troubles", "read_only"),
            "SQLite has no server",
        ),
        **dict.fromkeys(("delete_stream", "truncate_stream"), "its events are never removed"),
    }

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        async with super().open() as store:
            assert isinstance(store, SQLiteEventStore)
            await store._sqlite._writer.run(
                lambda db: db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            )
            yield store

    @asynccontextmanager
    async def using(
        self,
        store: EventStore,
        commits: bool,  # as the hook
    ) -> AsyncGenerator[EventStore, None]:
        assert isinstance(store, SQLiteEventStore)
        async with caller_transaction(self.url(), commits=commits) as connection:
            yield store.using(connection)

    def refused_event(self) -> NewEvent:
        return NewEvent("Large", bytes(LARGEST + 1))

    @asynccontextmanager
    async def slow_clock(self) -> AsyncGenerator[None, None]:
        real = time.time_ns
        with patch("time.time_ns", lambda: real() - 3_600 * 10**9):
            yield

    @asynccontextmanager
    async def odd_client(self) -> AsyncGenerator[EventStore, None]:
        async with connect(f"{self.url()}?synchronous=normal&busy_timeout=90") as store:
            yield store


class InMemoryHarness(FileHarness):
    name, location = "sqlite-in-memory", "sqlite://"
    capabilities = Capabilities.only(
        "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
    )
    absent = {
        **FileHarness.absent,
        "odd_client": "a database in memory has one client",
        "using": "no other connection reaches a database in memory",
    }


TestFile = conformance(FileHarness)
TestInMemory = conformance(InMemoryHarness)
