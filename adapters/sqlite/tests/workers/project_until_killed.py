"""Append without end, with an inline handler that counts the events of each stream."""

from __future__ import annotations

import asyncio
import os
import sys

from collections.abc import Sequence

import aiosqlite

from eventport import NewEvent, RecordedEvent
from eventport.transactions import Transaction

from eventport_sqlite import SQLiteEventStore


TASKS = 8


async def count(
    events: Sequence[RecordedEvent], transaction: Transaction[aiosqlite.Connection]
) -> None:
    """Add to the counts, one event at a time, so that there is much to be torn."""
    db = transaction.connection
    await db.execute("CREATE TABLE IF NOT EXISTS counts (stream TEXT PRIMARY KEY, events INTEGER)")
    for event in events:
        await db.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET events = events + 1",
            (event.stream,),
        )


async def append(store: SQLiteEventStore, stream: str) -> None:
    """Append three events."""
    await store.append(stream, [NewEvent("E", number) for number in range(3)])


async def append_for_ever(store: SQLiteEventStore, stream: str) -> None:
    """Append without end, and tell of each append when it has been acknowledged."""
    while True:
        await append(store, stream)
        os.write(1, f"{stream}\n".encode())


async def run(path: str) -> None:
    """Write in several tasks, so that commits are grouped."""
    async with await SQLiteEventStore.open(path) as store, asyncio.TaskGroup() as tasks:
        store.inline(count)
        await append(store, "begun")
        os.write(1, b"ready\n")
        await asyncio.to_thread(sys.stdin.readline)
        for task in range(TASKS):
            tasks.create_task(append_for_ever(store, f"s-{task}"))


asyncio.run(run(sys.argv[1]))
