"""What an operator should know about a database: its version, and the settings that lose data."""

from __future__ import annotations

import sqlite3

from pathlib import Path
from typing import Final

from eventport.adapter import Remark, fact

from eventport_sqlite.database import Database
from eventport_sqlite.schema import SCHEMA_VERSION


LONG_LOG: Final = 256 * 1024 * 1024
"""Bytes of a write-ahead log from which on somebody seems to keep it from being emptied."""

_FULL: Final = 2
_MEMORY: Final = Remark(
    "warning", "durability", "the database is in memory, and ends with its store", "name a file"
)
_NORMAL: Final = Remark(
    "warning",
    "durability",
    "synchronous is normal: a loss of power may take the last commits away",
    "open the store with synchronous=full, in every program that writes to the file",
)


def examine(db: Database, file: str | None) -> list[Remark]:
    """Look at a database.

    Args:
        db: A connection of the store.
        file: Its file; None if it is in memory.
    """
    found = [
        fact("server", f"SQLite {sqlite3.sqlite_version}"),
        fact("schema", f"version {SCHEMA_VERSION}, the newest one"),
    ]
    if file is None:
        return [*found, _MEMORY]
    db.require_file()
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
    found.append(fact("durability", f"the journal mode is {mode}"))
    if synchronous < _FULL:
        found.append(_NORMAL)
    else:
        found.append(fact("durability", "synchronous is full: each commit is on the disk"))
    return [*found, *_sizes(file)]


def _sizes(file: str) -> list[Remark]:
    log = Path(f"{file}-wal")
    size = log.stat().st_size if log.exists() else 0
    text = f"the file has {Path(file).stat().st_size:,} bytes, its write-ahead log {size:,}"
    if size < LONG_LOG:
        return [fact("limits", text)]
    remedy = (
        "find the program that keeps a transaction open on the file, and end it; then the next "
        "commits empty the log"
    )
    return [Remark("warning", "limits", text, remedy)]
