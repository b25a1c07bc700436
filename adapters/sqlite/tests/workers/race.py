"""Append to streams that must not exist yet, against other processes that do the same."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from eventport import NO_STREAM, ConcurrencyError, NewEvent

from eventport_sqlite import SQLiteEventStore


PACE = 0.005
"""The seconds between two streams: by the clock, so that all processes want the same at once."""


async def race(path: str, streams: int, size: int) -> list[int]:
    """Return, for each stream, the version it had: negative if this process did not make it."""
    results: list[int] = []
    async with await SQLiteEventStore.open(path) as store:
        print("ready", flush=True)  # noqa: T201  # to the test
        begin = float(sys.stdin.readline())
        for number in range(streams):
            await asyncio.sleep(begin + number * PACE - time.time())
            events = [NewEvent("Raced", {"size": size}) for _ in range(size)]
            try:
                result = await store.append(f"race-{number}", events, expected=NO_STREAM)
            except ConcurrencyError as exc:
                results.append(-exc.actual)
            else:
                results.append(result.version)
    return results


print(json.dumps(asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))  # noqa: T201  # to the test
