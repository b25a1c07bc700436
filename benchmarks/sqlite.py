"""SQLite against bare aiosqlite and bare sqlite3, on the same tables and durability."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiosqlite

from benchmarks.measure import MANY, Figure, append_once, few, rates

from eventport import NO_STREAM, EventStore, NewEvent

from eventport_sqlite import SQLiteEventStore


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
JSON: Final = '{"order":"o-1","sku":"abc","quantity":2,"price":12.5}'
INSERT: Final = """
    INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at)
    VALUES (?, 1, 'ItemAdded', ?, '{}', ?, 0)
"""
SYNCHRONOUS: Final = "full"
TASKS: Final = 64


def row(stream: str) -> tuple[Any, ...]:
    """Return the values of the row that an append of ours also writes."""
    return stream, JSON, uuid.uuid4().bytes


async def append(store: EventStore, stream: str) -> None:
    """Append one event to a new stream."""
    await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=NO_STREAM)


async def figures(folder: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal on SQLite."""
    print(f"SQLite {sqlite3.sqlite_version}, write-ahead log, synchronous={SYNCHRONOUS}")
    yield await one_task(folder)
    yield await many_tasks(folder)
    yield await many_tasks(folder, conditional=True)
    yield await read_stream(folder)
    yield await growth(folder)


async def one_task(folder: Path) -> Figure:
    """One append after the other, against one statement in autocommit after the other."""
    count = few(400)
    async with await SQLiteEventStore.open(folder / "ours.db", synchronous=SYNCHRONOUS) as store:
        bare = await floor(folder / "floor.db")

        async def ours(number: int) -> int:
            for index in range(count):
                await append(store, f"ours-{number}-{index}")
            return count

        async def theirs(number: int) -> int:
            for index in range(count):
                await bare.execute_fetchall(INSERT, row(f"bare-{number}-{index}"))
            return count

        ours_rate, floor_rate = await rates([ours, theirs], rounds=15)
        await bare.close()
    return Figure("SQLite, one task, append 1 / aiosqlite statement", ours_rate, floor_rate, 0.85)


async def many_tasks(folder: Path, *, conditional: bool = False) -> Figure:
    """Appends of 64 tasks, against plain transactions one after the other, without a loop."""
    count = few(6_400)
    what = "conditional, own tags" if conditional else "append 1"
    ours_path, floor_path = folder / f"ours {what}.db", folder / f"floor {what}.db"
    async with await SQLiteEventStore.open(ours_path, synchronous=SYNCHRONOUS) as store:
        await (await floor(floor_path)).close()
        bare = sqlite3.connect(floor_path, isolation_level=None)
        bare.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")

        async def ours(number: int) -> int:
            async def task(name: int) -> None:
                for index in range(count // TASKS):
                    stream = f"ours-{number}-{name}-{index}"
                    await (append_once if conditional else append)(store, stream)

            async with asyncio.TaskGroup() as group:
                for name in range(TASKS):
                    group.create_task(task(name))
            return count

        async def theirs(number: int) -> int:
            for index in range(count):
                bare.execute("BEGIN IMMEDIATE")
                bare.execute(INSERT, row(f"bare-{number}-{index}"))
                bare.execute("COMMIT")
            return count

        ours_rate, floor_rate = await rates([ours, theirs], rounds=9)
        bare.close()
    goal = 1.0 if conditional else 1.2
    return Figure(f"SQLite, 64 tasks, {what} / bare sqlite3", ours_rate, floor_rate, goal)


async def read_stream(folder: Path) -> Figure:
    """Read a stream of 10,000 events, against a bare fetch of its rows."""
    count = 10_000
    async with await SQLiteEventStore.open(folder / "read.db", synchronous=SYNCHRONOUS) as store:
        await store.append("long", [NewEvent("ItemAdded", DATA) for _ in range(count)])
        bare = await aiosqlite.connect(folder / "read.db")

        async def ours(_: int) -> int:
            return len((await store.read("long")).events)

        async def theirs(_: int) -> int:
            sql = "SELECT * FROM eventport_events WHERE stream = ? ORDER BY version"
            return len(list(await bare.execute_fetchall(sql, ("long",))))

        ours_rate, floor_rate = await rates([ours, theirs], rounds=15)
        await bare.close()
    return Figure("SQLite, read 10,000 events / bare rows, undecoded", ours_rate, floor_rate, 0)


async def growth(folder: Path) -> Figure:
    """Append to a store of a million events, against one of a thousand."""
    count = few(2_000)
    small_path, large_path = folder / "small.db", folder / "large.db"
    async with (
        await SQLiteEventStore.open(small_path, synchronous=SYNCHRONOUS) as small,
        await SQLiteEventStore.open(large_path, synchronous=SYNCHRONOUS) as large,
    ):
        fill(small_path, 1_000)
        fill(large_path, MANY)

        async def to(store: SQLiteEventStore, number: int) -> int:
            async def task(name: int) -> None:
                for index in range(count // TASKS):
                    await append(store, f"new-{uuid.uuid4()}-{number}-{name}-{index}")

            async with asyncio.TaskGroup() as group:
                for name in range(TASKS):
                    group.create_task(task(name))
            return count

        ours_rate, floor_rate = await rates(
            [lambda number: to(large, number), lambda number: to(small, number)], rounds=9
        )
    return Figure(f"SQLite, append at {MANY:,} events / at 1,000", ours_rate, floor_rate, 0.8)


async def floor(path: Path) -> aiosqlite.Connection:
    """Make a database with our tables, and open it with the bare driver."""
    await (await SQLiteEventStore.open(path)).aclose()
    bare = await aiosqlite.connect(path, isolation_level=None)
    await bare.execute_fetchall(f"PRAGMA synchronous = {SYNCHRONOUS}")
    return bare


def fill(path: Path, count: int) -> None:
    """Write events without going through a store: 10 to a stream."""
    bare = sqlite3.connect(path)
    with bare:
        bare.executemany(
            "INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at)"
            " VALUES (?, ?, 'ItemAdded', ?, '{}', ?, 0)",
            (
                (f"filled-{index // 10:08}", index % 10 + 1, JSON, index.to_bytes(16, "big"))
                for index in range(count)
            ),
        )
    bare.close()
