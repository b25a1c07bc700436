"""eventsource-py 0.8.1 in memory: a task that reads in a loop never lets another one run.

Its methods are coroutines that await nothing. A task that works on the store for long holds up all
others, and cannot be cancelled (CAN-06, CAN-07).
"""

from __future__ import annotations

import asyncio

from uuid import uuid4

from eventsource.adapters.memory.store import InMemoryEventStore
from eventsource.domain import StreamId


async def main() -> None:
    """Read a thousand times, and see whether another task had a turn."""
    store, turns = InMemoryEventStore(), []

    async def other() -> None:
        turns.append(1)

    task = asyncio.create_task(other())
    for _ in range(1_000):
        await store.get_stream_version(StreamId(uuid4(), "Order"))
    print("PASS" if turns else "FAIL: 1,000 reads, and no other task had a turn")
    await task


asyncio.run(main())
