"""Append without end, and tell each append only when it has been acknowledged."""

from __future__ import annotations

import asyncio
import os
import sys

from itertools import count
from uuid import uuid4

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


TASKS = 4


def acknowledge(stream: str, version: int) -> None:
    """Hand a line to the operating system at once, where a kill cannot take it back."""
    os.write(1, f"{stream} {version}\n".encode())


def events(name: str, size: int) -> list[NewEvent]:
    """Make the events of one commit, each saying which of how many it is."""
    return [NewEvent("Written", [name, index, size], {"pad": "x" * 200}) for index in range(size)]


async def append(store: SQLiteEventStore, task: int) -> None:
    """Append several events at once to a stream of this task."""
    stream = f"single-{task}"
    version = (await store.read(stream, max_count=0)).version
    for number in count():
        own = events(str(uuid4()), 1 + number % 5)
        version = (await store.append(stream, own, expected=version)).version
        acknowledge(stream, version)


async def commit(store: SQLiteEventStore, task: int) -> None:
    """Append to two streams in one session."""
    for _ in count():
        own = events(str(uuid4()), 4)
        async with store.session() as session:
            left = await session.append(f"left-{task}", own[:2])
            right = await session.append(f"right-{task}", own[2:])
        acknowledge(f"left-{task}", left.version)
        acknowledge(f"right-{task}", right.version)


async def run(path: str) -> None:
    """Write in several tasks, so that commits are grouped."""
    async with await SQLiteEventStore.open(path) as store, asyncio.TaskGroup() as tasks:
        for task in range(TASKS):
            tasks.create_task(append(store, task))
            tasks.create_task(commit(store, task))


os.write(1, b"ready\n")
sys.stdin.readline()
asyncio.run(run(sys.argv[1]))
