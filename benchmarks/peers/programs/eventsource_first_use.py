"""eventsource-py 0.8.1 on SQLite: two stores that are first used at the same time.

Each makes the schema when it is first used. It looks whether a column is there, and adds it if not;
when two do so at once on a new file, one of them fails with "duplicate column name" or "database is
locked". So the start of two processes on a new file is a matter of luck (SHA-07, SHA-08, SHA-12,
ODD-03).
"""

from __future__ import annotations

import asyncio

from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from eventsource.adapters.sqlite.store import SQLiteEventStore
from eventsource.domain import StreamId


async def main() -> None:
    """Open new files with several stores at once, until one fails."""
    for round_ in range(100):
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = str(Path(folder, "events.db"))
            stores = [SQLiteEventStore(path) for _ in range(4)]
            asking = [store.get_stream_version(StreamId(uuid4(), "Order")) for store in stores]
            results = await asyncio.gather(*asking, return_exceptions=True)
            for store in stores:
                await store.close()
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            print(f"FAIL in round {round_}: {type(failed[0]).__name__}: {failed[0]}")
            return
    print("PASS")


asyncio.run(main())
