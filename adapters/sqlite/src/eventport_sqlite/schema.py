"""The tables, and how a database is recognised, created, or left alone."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from pathlib import Path
from typing import Final

from eventport.errors import IncompatibleStoreError

from eventport_sqlite.scripts import run_script


_MIGRATIONS: Final = ("1_tables.sql", "2_tags.sql")
"""What leads from each version to the next, from nothing to the first onwards."""

SCHEMA_VERSION: Final = len(_MIGRATIONS)
"""The version of the tables that this package reads and writes."""


def refuse_foreign(path: str) -> None:
    """Refuse a file that is not ours, before it is opened in a way that could change it.

    Opening a database normally replays the log or journal that a crash may have left beside
    it. This reads the file alone, without a lock, and leaves no trace.

    Raises:
        IncompatibleStoreError: the file is of a newer version, or belongs to something else.
    """
    file = Path(path).absolute()
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            _find_version(db, path)
    except sqlite3.Error:
        # Another process is writing to it: `prepare` waits for the lock and then checks again.
        return


def prepare(db: sqlite3.Connection, name: str) -> None:
    """Make sure that a database holds our tables, in our version.

    An older version is brought to this one; programs of that version refuse the file from then on.

    Args:
        db: A connection in autocommit mode, on which nothing has been changed yet.
        name: How to call the database in an error.

    Raises:
        IncompatibleStoreError: the database is of a newer version, or belongs to something else.
    """
    if _find_version(db, name) < SCHEMA_VERSION:
        db.execute("BEGIN IMMEDIATE")
        try:
            before = _find_version(db, name)  # another process may have been faster
            for version, file in enumerate(_MIGRATIONS[before:], before + 1):
                run_script(db, file)
                db.execute("INSERT INTO eventport_schema VALUES (?)", (version,))
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _find_version(db: sqlite3.Connection, name: str) -> int:
    """Return the version of our tables; 0 if the database is empty. Refuse everything else."""
    try:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        message = f"{name} is not an SQLite database; it was not touched: name another file"
        raise IncompatibleStoreError(message) from exc
    if not tables:
        return 0
    if "eventport_schema" not in tables:
        message = (
            f"{name} belongs to another program (it holds {', '.join(sorted(tables)[:3])}); "
            "it was not touched: name another file"
        )
        raise IncompatibleStoreError(message)
    version: int | None = db.execute("SELECT max(version) FROM eventport_schema").fetchone()[0]
    if version is None or not 1 <= version <= SCHEMA_VERSION:
        message = (
            f"{name} has schema version {version}; this eventport-sqlite knows {SCHEMA_VERSION}: "
            "install the eventport-sqlite that wrote it, or a newer one"
        )
        raise IncompatibleStoreError(message)
    return version
