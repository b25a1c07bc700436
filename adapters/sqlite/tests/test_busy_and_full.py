"""Proves that a lock held too long and a full disk are clear errors with nothing half written."""

from __future__ import annotations

import asyncio
import sqlite3

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from eventport import NewEvent, StoreUnavailableError

from eventport_conformance.scripts import Start
from eventport_conformance.waiting import HANG_SECONDS
from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.schema import prepare


Query = Callable[..., list[tuple[object, ...]]]


def events(count: int) -> list[NewEvent]:
    return [NewEvent("Happened", "x" * 500) for _ in range(count)]


async def commit(store: SQLiteEventStore, left: list[NewEvent], right: list[NewEvent]) -> None:
    async with store.session() as session:
        await session.append("left", left)
        await session.append("right", right)


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the write lock, as another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


async def test_a_lock_held_for_longer_than_busy_timeout_is_an_error(
    path: Path, query: Query
) -> None:
    async with await SQLiteEventStore.open(path, busy_timeout=0.1) as store:
        await store.append("s", events(1))
        with locked(path):
            with pytest.raises(StoreUnavailableError, match="longer than busy_timeout"):
                await store.append("s", events(2))
            with pytest.raises(StoreUnavailableError, match="longer than busy_timeout"):
                await commit(store, events(1), events(1))
            assert (await store.read("s")).version == 1  # readers need no lock
            assert query("SELECT count(*) FROM eventport_events") == [(1,)]
        assert (await store.append("s", events(1), expected=1)).version == 2


async def test_a_lock_that_is_released_in_time_is_waited_for(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        with locked(path):
            append = asyncio.create_task(store.append("s", events(1)))
            await asyncio.sleep(0.2)
            assert not append.done()
            read = await store.read("s")  # a waiting writer blocks no reader
            assert read.version == 0
        assert (await append).version == 1


async def test_opening_an_existing_store_needs_no_write_lock(path: Path) -> None:
    await (await SQLiteEventStore.open(path)).aclose()
    with locked(path):
        async with await SQLiteEventStore.open(path, busy_timeout=0) as store:
            assert (await store.read("s")).version == 0


async def test_creating_a_store_in_a_file_that_is_locked_is_an_error(
    path: Path, query: Query
) -> None:
    with locked(path), pytest.raises(StoreUnavailableError, match="longer than busy_timeout"):
        await SQLiteEventStore.open(path, busy_timeout=0.1)
    assert query("SELECT count(*) FROM sqlite_schema") == [(0,)]
    async with await SQLiteEventStore.open(path) as store:
        assert (await store.append("s", events(1))).version == 1


async def test_stores_that_create_one_file_at_the_same_moment_agree(
    path: Path, query: Query
) -> None:
    with locked(path):
        openings = [asyncio.create_task(SQLiteEventStore.open(path)) for _ in range(3)]
        await asyncio.sleep(0.2)  # all have seen an empty database, and wait for the lock
        assert not any(opening.done() for opening in openings)
    for opening in openings:
        await (await opening).aclose()
    assert query("SELECT version FROM eventport_schema") == [(1,), (2,)]  # each step once


@pytest.fixture
def without_log(path: Path) -> Path:
    """Make what another process leaves for a moment when it has just created the tables."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        prepare(db, str(path))
    return path


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN"])
async def test_who_is_in_the_way_of_the_log_is_waited_for(without_log: Path, begin: str) -> None:
    with closing(sqlite3.connect(without_log, isolation_level=None)) as db:
        db.execute(begin)
        db.execute("SELECT * FROM eventport_schema").fetchone()
        opening = asyncio.create_task(SQLiteEventStore.open(without_log, busy_timeout=HANG_SECONDS))
        await asyncio.sleep(0.2)
        assert not opening.done()
        db.execute("COMMIT")
        async with await opening as store:
            assert (await store.append("s", events(1))).version == 1


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN"])
async def test_who_stays_in_the_way_of_the_log_is_an_error(without_log: Path, begin: str) -> None:
    with closing(sqlite3.connect(without_log, isolation_level=None)) as db:
        db.execute(begin)
        db.execute("SELECT * FROM eventport_schema").fetchone()
        with pytest.raises(StoreUnavailableError, match="longer than busy_timeout"):
            await SQLiteEventStore.open(without_log, busy_timeout=0.1)


async def test_a_database_that_may_not_grow_refuses_an_append_as_a_whole(
    store: SQLiteEventStore, query: Query
) -> None:
    def limit(db: sqlite3.Connection, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    await store.append("s", events(10))
    await store._sqlite._writer.run(limit, 20)
    with pytest.raises(StoreUnavailableError, match="full"):
        await store.append("s", events(500))
    with pytest.raises(StoreUnavailableError, match="full"):
        await commit(store, events(1), events(500))
    assert query("SELECT DISTINCT stream, count(*) FROM eventport_events") == [("s", 10)]
    query("BEGIN IMMEDIATE")
    await store._sqlite._writer.run(limit, 1_000_000)
    result = await store.append("s", events(500), expected=10)
    assert (result.version, result.position) == (510, 510)


def test_a_file_that_cannot_grow_loses_nothing_that_was_acknowledged(
    path: Path, start: Start, query: Query
) -> None:
    process = start("fill_the_disk.py", path)
    output = process.output()
    acknowledged, error, seen, after = output.splitlines()
    assert int(acknowledged) > 0
    assert seen == acknowledged
    assert int(after) == int(acknowledged) + 5
    assert "SQLite: " in error
    assert query("SELECT count(*), max(version), max(position) FROM eventport_events") == [
        (int(after), int(after), int(after))
    ]
    assert query("PRAGMA integrity_check") == [("ok",)]
