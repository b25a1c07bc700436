"""The store in SQLite is conformant, on a file and in memory."""

from __future__ import annotations

import sqlite3

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from eventport_conformance import Capabilities, Harness, Supported, Unsupported, conformance
from eventport_sqlite import SQLiteEventStore


class FileHarness(Harness):
    name = "sqlite"
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("SQLite has no notifications; subscriptions look again and again"),
        shared=Supported(),
        durable=Supported(),
        hooks=Supported(),
    )
    server = f"SQLite {sqlite3.sqlite_version}"
    absent = dict.fromkeys(("address", "open_at", "restart"), "SQLite has no server")
    path = Path()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[SQLiteEventStore, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder, "events.db")
            async with self.second_client() as store:
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[SQLiteEventStore, None]:
        async with await SQLiteEventStore.open(self.path) as store:
            yield store

    def url(self) -> str:
        return f"sqlite:///{self.path}"


class InMemoryHarness(Harness):
    name = "sqlite-in-memory"
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("SQLite has no notifications; subscriptions look again and again"),
        shared=Unsupported("a database in memory belongs to one store"),
        durable=Unsupported("a database in memory ends with its store"),
        hooks=Supported(),
    )
    server = f"SQLite {sqlite3.sqlite_version}"
    absent = dict.fromkeys(("address", "open_at", "restart"), "SQLite has no server")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[SQLiteEventStore, None]:
        async with await SQLiteEventStore.open(":memory:") as store:
            yield store


TestFile = conformance(FileHarness)
TestInMemory = conformance(InMemoryHarness)
