"""A store inside the caller's transaction sees what that transaction sees."""

from __future__ import annotations

from pathlib import Path

import aiosqlite

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


async def test_heads_are_those_that_the_transaction_sees(
    path: Path, store: SQLiteEventStore
) -> None:
    await store.append("order-1", [NewEvent("E", {})])
    async with aiosqlite.connect(path, isolation_level=None) as own:
        await own.execute("BEGIN IMMEDIATE")
        joined = store.using(own)
        await joined.append("order-2", [NewEvent("E", {}), NewEvent("E", {})])
        heads = await joined.heads(["order-2", "order-1", "order-3"])
        assert heads == {"order-2": 2, "order-1": 1, "order-3": 0}
        assert await store.heads(["order-2", "order-1"]) == {"order-2": 0, "order-1": 1}
        await own.execute("ROLLBACK")
