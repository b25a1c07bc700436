"""Append to streams that must not exist yet, against other processes that do the same."""

from __future__ import annotations

import asyncio
import json
import sys

from eventport import NO_STREAM, ConcurrencyError, NewEvent

from eventport_sqlite import SQLiteEventStore


async def race(path: str, streams: int, size: int) -> list[int]:
    """Return, for each stream, the version it had: negative if this process did not make it."""
    results: list[int] = []
    async with await SQLiteEventStore.open(path) as store:
        for number in range(streams):
            # The test lets all processes go on when the last one is here: all want the same stream.
            print("ready", flush=True)  # noqa: T201  # to the test
            sys.stdin.readline()
            events = [NewEvent("Raced", {"size": size}) for _ in range(size)]
            try:
                result = await store.append(f"race-{number}", events, expected=NO_STREAM)
            except ConcurrencyError as exc:
                results.append(-exc.actual)
            else:
                results.append(result.version)
    return results


print(json.dumps(asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))  # noqa: T201  # to the test
