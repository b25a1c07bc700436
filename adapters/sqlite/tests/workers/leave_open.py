"""Append, and end without closing the store, as a program does that was written in a hurry."""

from __future__ import annotations

import asyncio
import sys

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


kept: list[object] = []


async def run(path: str, how: str) -> None:
    """End normally, by an error, or in the middle of appends."""
    store = await SQLiteEventStore.open(path)
    kept.append(store)
    await store.append("left", [NewEvent("Acknowledged", None)])
    if how == "error":
        raise SystemExit(3)
    if how == "busy":
        appends = [
            asyncio.create_task(store.append(f"left-{number}", [NewEvent("Pending", None)] * 1))
            for number in range(50)
        ]
        kept.append(appends)
        await asyncio.sleep(0)


asyncio.run(run(sys.argv[1], sys.argv[2]))
