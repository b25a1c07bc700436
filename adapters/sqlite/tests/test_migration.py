"""Proves that a store of an earlier version becomes one of this version, its events untouched."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from pathlib import Path
from uuid import UUID

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


VERSION_1 = """
    CREATE TABLE eventport_schema (version INTEGER NOT NULL) STRICT;
    CREATE TABLE eventport_events (
        position    INTEGER PRIMARY KEY AUTOINCREMENT,
        stream      TEXT    NOT NULL,
        version     INTEGER NOT NULL,
        type        TEXT    NOT NULL,
        data        ANY     NOT NULL,
        metadata    TEXT    NOT NULL,
        id          BLOB    NOT NULL,
        recorded_at INTEGER NOT NULL,
        UNIQUE (stream, version)
    ) STRICT;
    INSERT INTO eventport_schema VALUES (1);
"""
OLD_EVENT = """
    INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at)
    VALUES ('s', ?, 'E', '{"n": 1}', '{}', ?, 0)
"""


async def test_version_1_becomes_the_newest(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(VERSION_1)
        old.executemany(OLD_EVENT, [(n, UUID(int=n).bytes) for n in (1, 2, 3)])
        async with await SQLiteEventStore.open(path) as store:
            await store.append("s", [NewEvent("E", 1, tags={"x"})], expected=3)
            # A program of the old version that has the file open goes on working.
            old.execute(OLD_EVENT, (5, UUID(int=5).bytes))
            events = (await store.read("s")).events
            assert [(event.version, event.tags) for event in events] == [
                *[(n, frozenset()) for n in (1, 2, 3)],
                (4, {"x"}),
                (5, frozenset()),
            ]
        versions = old.execute("SELECT version FROM eventport_schema ORDER BY version").fetchall()
    assert versions == [(1,), (2,)]


async def test_a_migrated_file_is_like_a_new_one(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(VERSION_1)
    for file in (path, new := tmp_path / "new.db"):
        async with await SQLiteEventStore.open(file):
            pass
    assert columns(path) == columns(new)


def columns(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT m.name, c.name, c.type, c.pk FROM sqlite_schema m, pragma_table_info(m.name) c "
            "WHERE m.type = 'table' ORDER BY m.name, c.cid"
        ).fetchall()
