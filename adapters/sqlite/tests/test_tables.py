"""Proves what the tables hold, and that positions and the log behave over time."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from eventport import NewEvent, connect
from eventport.adapter import AllQuery

from eventport_sqlite import SQLiteEventStore, statements


Query = Callable[..., list[tuple[object, ...]]]


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql)


async def test_the_settings_that_durability_depends_on(path: Path) -> None:
    def settings(db: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "fullfsync", "busy_timeout")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    async with await SQLiteEventStore.open(path) as store:
        assert await store._sqlite._writer.run(settings) == ["wal", 2, 1, 30_000]
        assert await store._sqlite._reader.run(settings) == ["wal", 2, 1, 30_000]
    async with await SQLiteEventStore.open(path, synchronous="normal", busy_timeout=1.5) as store:
        assert await store._sqlite._writer.run(settings) == ["wal", 1, 0, 1500]
    async with connect(f"sqlite:///{path}?synchronous=normal&busy_timeout=2") as opened:
        assert isinstance(opened, SQLiteEventStore)
        assert await opened._sqlite._writer.run(settings) == ["wal", 1, 0, 2000]


async def test_a_position_is_never_used_again(path: Path, store: SQLiteEventStore) -> None:
    await store.append("s", [NewEvent("Stored", n) for n in range(5)])
    execute(path, "DELETE FROM eventport_events WHERE position > 3")
    assert (await store.read_all()).position == 5
    result = await store.append("s", [NewEvent("Stored", 5)])
    assert (result.version, result.position) == (4, 6)
    execute(path, "DELETE FROM eventport_events")
    assert (await store.append("s", [NewEvent("Stored", 6)])).position == 7
    assert [event.position for event in (await store.read_all()).events] == [7]


async def test_what_is_reported_is_what_is_stored_even_if_somebody_inserts(
    path: Path, store: SQLiteEventStore, query: Query
) -> None:
    await store.append("s", [NewEvent("Stored", 1)])
    execute(
        path,
        "INSERT INTO eventport_events "
        "SELECT 40, 's', 2, type, data, metadata, id, recorded_at, tags "
        "FROM eventport_events",
    )
    result = await store.append("s", [NewEvent("Stored", n) for n in range(3)])
    assert (result.version, result.position) == (5, 43)
    assert query("SELECT position FROM eventport_events") == [(1,), (40,), (41,), (42,), (43,)]
    assert [event.position async for event in store.iterate_all()] == [1, 40, 41, 42, 43]


async def test_a_filter_that_matches_little_goes_page_by_page(
    path: Path, store: SQLiteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "SCAN", 100)
    for number in range(25):
        await store.append("many", [NewEvent("Many", n) for n in range(40)])
        if number % 10 == 5:
            await store.append("few-%_", [NewEvent("Few", number)])
    page = await store._sqlite.read_all(AllQuery(0, 10, frozenset({"Few"})))
    assert (len(page.events), page.position, page.head) == (0, 100, 1002)
    for types, prefix in ((["Few"], None), (None, "few-%"), (["Few", "More"], "few-%_")):
        result = await store.read_all(types=types, prefix=prefix)
        assert [event.data for event in result.events] == [5, 15]
        assert result.position == 1002
        found = store.iterate_all(types=types, prefix=prefix)
        assert [event.data async for event in found] == [5, 15]
    assert (await store.read_all(prefix="few-_%")).events == []
    assert (await store.read_all(prefix="FEW")).events == []


async def test_readers_that_pause_hold_no_transaction(
    store: SQLiteEventStore, query: Query
) -> None:
    """One that did would keep the log from ever being emptied, and the file from being closed."""
    await store.append("s", [NewEvent("Stored", n) for n in range(2_000)])
    async with (
        aclosing(store.iterate("s")) as stream,
        aclosing(store.iterate_all(types=["Stored"])) as everything,
        store.subscribe() as subscription,
        store.session() as session,
    ):
        assert (await anext(stream)).version == 1
        assert (await anext(everything)).version == 1
        assert (await anext(subscription)).version == 1
        assert (await session.read("s", max_count=1)).version == 2_000
        assert query("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
