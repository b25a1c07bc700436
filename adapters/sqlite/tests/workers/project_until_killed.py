"""Append without end, with an inline handler that counts the events of each stream."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys

from collections.abc import Sequence

from eventport import NewEvent, RecordedEvent

from eventport_sqlite import SQLiteEventStore


TASKS = 8


def count(db: sqlite3.Connection, events: Sequence[RecordedEvent]) -> None:
    """Add to the counts, one event at a time, so that there is much to be torn."""
    db.execute("CREATE TABLE IF NOT EXISTS counts (stream TEXT PRIMARY KEY, events INTEGER)")
    for event in events:
        db.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET events = events + 1",
            (event.stream,),
        )


async def append(store: SQLiteEventStore, task: int) -> None:
    """Append three events at a time."""
    while True:
        await store.append(f"s-{task}", [NewEvent("E", number) for number in range(3)])


async def run(path: str) -> None:
    """Write in several tasks, so that commits are grouped."""
    async with await SQLiteEventStore.open(path) as store, asyncio.TaskGroup() as tasks:
        store.inline(count)
        for task in range(TASKS):
            tasks.create_task(append(store, task))


os.write(1, b"ready\n")
sys.stdin.readline()
asyncio.run(run(sys.argv[1]))
