"""Append one event after the other, with a pause, each telling when its commit had ended."""

from __future__ import annotations

import asyncio
import sys
import time

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


async def run(path: str, count: int, pause: float) -> None:
    """Print the time of each commit, in the order of the commits."""
    times: list[int] = []
    async with await SQLiteEventStore.open(path) as store:
        for number in range(count):
            await asyncio.sleep(pause)
            await store.append("s", [NewEvent("Timed", number)])
            times.append(time.time_ns())
    print(*times)  # noqa: T201  # to the test


print("ready", flush=True)  # noqa: T201  # to the test
sys.stdin.readline()
asyncio.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
