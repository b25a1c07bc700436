"""What an inline handler of one statement costs: the same appends, with it and without."""

from __future__ import annotations

import os
import sqlite3

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg

from adapters.postgres.tests.server import running_server  # what the tests start, too
from benchmarks.measure import Figure, few, rates
from benchmarks.postgres import DATA, in_tasks

from eventport import NO_STREAM, EventStore, NewEvent, RecordedEvent
from eventport.transactions import Transaction

from eventport_postgres import PostgresEventStore
from eventport_sqlite import SQLiteEventStore


CREATE = "CREATE TABLE model (stream text PRIMARY KEY, version bigint)"


async def figures(folder: Path) -> AsyncIterator[Figure]:
    """Measure both backends."""
    async for figure in on_sqlite(folder):
        yield figure
    if given := os.environ.get("EVENTPORT_TEST_POSTGRES_URL"):
        async for figure in on_postgres(given):
            yield figure
        return
    with running_server() as server:
        async for figure in on_postgres(server.url):
            yield figure


async def on_sqlite(folder: Path) -> AsyncIterator[Figure]:
    """Measure on two files."""

    async def project(
        events: Sequence[RecordedEvent], transaction: Transaction[aiosqlite.Connection]
    ) -> None:
        for event in events:
            await transaction.connection.execute(
                "INSERT INTO model VALUES (?, ?)", (event.stream, event.version)
            )

    async with (
        await SQLiteEventStore.open(folder / "inline.db") as inline,
        await SQLiteEventStore.open(folder / "plain.db") as plain,
    ):
        with closing(sqlite3.connect(folder / "inline.db")) as db:
            db.execute(CREATE)
        inline.inline(project)
        for tasks in (1, 64):
            yield await compare("SQLite", inline, plain, tasks)


async def on_postgres(url: str) -> AsyncIterator[Figure]:
    """Measure on two schemas."""

    async def project(
        events: Sequence[RecordedEvent], transaction: Transaction[asyncpg.Connection[Any]]
    ) -> None:
        for event in events:
            await transaction.connection.execute(
                "INSERT INTO bench_inline.model VALUES ($1, $2)", event.stream, event.version
            )

    async with (
        await PostgresEventStore.connect(url, schema="bench_inline") as inline,
        await PostgresEventStore.connect(url, schema="bench_plain") as plain,
    ):
        admin = await asyncpg.connect(url)
        await admin.execute(f"SET search_path = bench_inline; {CREATE}")
        await admin.close()
        inline.inline(project)
        for tasks in (1, 64):
            yield await compare("Postgres", inline, plain, tasks)


async def compare(name: str, inline: EventStore, plain: EventStore, tasks: int) -> Figure:
    """Let both append to new streams."""
    count = few(300 if tasks == 1 else 1_920)

    async def append(store: EventStore, stream: str) -> None:
        await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=NO_STREAM)

    ours, floor = await rates(
        [
            lambda _: in_tasks(tasks, count, lambda stream: append(inline, stream)),
            lambda _: in_tasks(tasks, count, lambda stream: append(plain, stream)),
        ],
        rounds=9,
    )
    return Figure(
        f"{name}, {tasks} tasks, append 1 with an inline handler / without", ours, floor, 0
    )
