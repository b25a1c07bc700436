"""The SQL files of this package."""

from __future__ import annotations

import sqlite3

from functools import cache
from importlib.resources import files


def run_script(db: sqlite3.Connection, file: str) -> None:
    """Run the statements of a file in the transaction that is open, which `executescript` ends."""
    for statement in _statements(file):
        db.execute(statement)


@cache
def _statements(file: str) -> tuple[str, ...]:
    found: list[str] = []
    script = files("eventport_sqlite").joinpath("sql", file).read_text(encoding="utf-8")
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return tuple(found)
