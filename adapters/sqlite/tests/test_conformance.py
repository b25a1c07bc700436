"""The store in SQLite is conformant, on a file and in memory."""

from __future__ import annotations

import sqlite3

from eventport_conformance import Capabilities, UrlHarness, conformance


class FileHarness(UrlHarness):
    name, location = "sqlite", "sqlite:///{folder}/events.db"
    capabilities = Capabilities.only(
        "sessions", "global_order", "shared", "durable", "guards", "hooks"
    )
    server = f"SQLite {sqlite3.sqlite_version}"
    absent = dict.fromkeys(("address", "open_at", "restart"), "SQLite has no server")


class InMemoryHarness(FileHarness):
    name, location = "sqlite-in-memory", "sqlite://"
    capabilities = Capabilities.only("sessions", "global_order", "guards", "hooks")


TestFile = conformance(FileHarness)
TestInMemory = conformance(InMemoryHarness)
