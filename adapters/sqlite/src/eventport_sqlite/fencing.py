"""The fence: a trigger that refuses new events, so that appends without it pay nothing for it."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from typing import Final

from eventport.errors import StoreFencedError

from eventport_sqlite.database import Database


_MARK: Final = "eventport fence: "
"""What the message of the trigger begins with."""

_REASON: Final = "SELECT name FROM sqlite_schema WHERE name = 'eventport_fence'"
_DROP: Final = (
    "DROP VIEW IF EXISTS eventport_fence",
    "DROP TRIGGER IF EXISTS eventport_fence_appends",
)


def fenced(db: sqlite3.Connection) -> str | None:
    """Return what the fence says; None if there is none."""
    if not _fetch(db, _REASON):
        return None
    (reason,) = _fetch(db, "SELECT reason FROM eventport_fence")
    return str(reason)


def set_fence(db: Database, before: str | None, after: str | None) -> bool:
    """Change the fence in a transaction, if it says what is expected; return whether it did."""
    db.begin()
    try:
        if fenced(db) != before:
            db.rollback()
            return False
        for statement in (*_DROP, *_statements(after)):
            db.execute(statement)
        db.commit()
    except BaseException:
        db.rollback()
        raise
    return True


def fence_in(exc: BaseException) -> StoreFencedError | None:
    """Return the error that the trigger stands for; None if it is not that of the trigger."""
    text = str(exc)
    return StoreFencedError(text.removeprefix(_MARK)) if text.startswith(_MARK) else None


def _statements(reason: str | None) -> tuple[str, ...]:
    if reason is None:
        return ()
    # Neither a view nor a trigger takes parameters.
    return (
        f"CREATE VIEW eventport_fence (reason) AS SELECT {_literal(reason)}",
        f"""
        CREATE TRIGGER eventport_fence_appends BEFORE INSERT ON eventport_events
        BEGIN SELECT RAISE(ABORT, {_literal(_MARK + reason)}); END
        """,
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _fetch(db: sqlite3.Connection, sql: str) -> tuple[object, ...]:
    with closing(db.execute(sql)) as cursor:
        return tuple(cursor.fetchone() or ())
