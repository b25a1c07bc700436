"""Open a file that may be new, append one event, close."""

from __future__ import annotations

import asyncio
import sys

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


async def open_once(path: str, name: str) -> int:
    """Return the version of this process's own stream."""
    async with await SQLiteEventStore.open(path) as store:
        return (await store.append(name, [NewEvent("Opened", None)])).version


print("ready", flush=True)  # noqa: T201  # to the test
sys.stdin.readline()
print(asyncio.run(open_once(sys.argv[1], sys.argv[2])))  # noqa: T201  # to the test
