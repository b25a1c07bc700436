"""Go through a large store, and tell by how much the peak of memory has grown meanwhile."""

from __future__ import annotations

import asyncio
import resource
import sys

from collections.abc import AsyncGenerator
from pathlib import Path

from eventport import RecordedEvent

from eventport_sqlite import SQLiteEventStore


def peak() -> int:
    """Return the most memory that this process ever had, in KiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where `ru_maxrss` begins with the memory of the parent process
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def count(events: AsyncGenerator[RecordedEvent, None]) -> int:
    """Count without keeping."""
    number = 0
    async for _ in events:
        number += 1
    return number


async def fold(store: SQLiteEventStore, how: str) -> int:
    """Count the events of the stream, or of the whole store."""
    match how:
        case "aggregate":
            return (await store.aggregate("large", lambda number, _: number + 1, int)).state
        case "iterate":
            return await count(store.iterate("large"))
        case "iterate_backwards":
            return await count(store.iterate("large", backwards=True))
        case "iterate_all":
            return await count(store.iterate_all())
        case "iterate_all_filtered":
            return await count(store.iterate_all(types=["None"]))
        case _:
            raise AssertionError(how)


async def run(path: str, how: str) -> None:
    """Print the count and the growth."""
    async with await SQLiteEventStore.open(path) as store:
        await store.read("large", max_count=1000)  # what is loaded once does not grow later
        before = peak()
        found = await fold(store, how)
        print(found, peak() - before)  # noqa: T201  # to the test


asyncio.run(run(sys.argv[1], sys.argv[2]))
