"""Counts what many tasks do in one turn of the event loop; no clock is involved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import anyio

from anyio.lowlevel import checkpoint

from eventport import EventStore, NewEvent


TASKS = 4_000


class Turns:
    """Appends from thousands of tasks at once, and counts in which turns they work."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._turn = 0
        self._ended = False
        self.begun = Counter[int]()
        """How many appends were encoded in each turn."""
        self.returned = Counter[int]()
        """How many returned in each turn."""

    async def append_at_once(self) -> None:
        """Let all tasks begin in the same turn, and wait for their end."""
        async with anyio.create_task_group() as counting:
            counting.start_soon(self._count)
            async with anyio.create_task_group() as tasks:
                for number in range(TASKS):
                    tasks.start_soon(self._append, number)
            counting.cancel_scope.cancel()

    async def _count(self) -> None:
        while True:
            self._turn += 1
            await checkpoint()

    async def _append(self, number: int) -> None:
        await self._store.append(f"s-{number % 50}", self._events(number))
        self.returned[self._turn] += 1

    def _events(self, number: int) -> Iterator[NewEvent]:
        self.begun[self._turn] += 1
        yield NewEvent("T", number)


async def check_turns(store: EventStore) -> None:
    """Fail if a turn of the loop does the work of more than two batches."""
    turns = Turns(store)
    await turns.append_at_once()
    assert turns.begun.total() == turns.returned.total() == TASKS
    assert max(turns.begun.values()) <= 256
    assert max(turns.returned.values()) <= 256
