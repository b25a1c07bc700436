"""Proves that the tables and queries in the documentation are those of the store."""

from __future__ import annotations

import re
import sqlite3

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.schema import prepare


Query = Callable[..., list[tuple[object, ...]]]

PAGE = Path(__file__).parents[3] / "docs" / "sqlite.md"
TABLES, *QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def columns(db: sqlite3.Connection) -> list[object]:
    tables = ("eventport_events", "eventport_schema")
    return [row for table in tables for row in db.execute(f"PRAGMA table_xinfo({table})")]


def test_the_tables_are_as_they_are_shown() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as shown,
        closing(sqlite3.connect(":memory:")) as ours,
    ):
        shown.executescript(TABLES)
        prepare(ours, "ours")
        assert columns(shown) == columns(ours) != []


async def test_the_queries_answer_what_they_say(store: SQLiteEventStore, query: Query) -> None:
    placed = NewEvent("OrderPlaced", {"total": 12.5})
    await store.append("order-1", [placed, NewEvent("OrderShipped", {})])
    await store.append("order-2", [NewEvent("OrderPlaced", {"total": 3})])
    history, types, streams = map(query, QUERIES)
    year = str((await store.read("order-1")).events[0].recorded_at.year)
    assert [(row[:3], str(row[3])[:4]) for row in history] == [
        ((1, "OrderPlaced", 12.5), year),
        ((2, "OrderShipped", None), year),
    ]
    assert types == [("OrderPlaced", 2, 3), ("OrderShipped", 1, 2)]
    assert streams == [("order-1", 2), ("order-2", 1)]
