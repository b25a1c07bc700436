"""Open a store on a database in which there may be nothing yet, and append to it."""

from __future__ import annotations

import asyncio
import sys

from eventport import NewEvent

from eventport_postgres import PostgresEventStore


async def run(url: str, schema: str, stream: str) -> None:
    """Print the version that the append made."""
    async with await PostgresEventStore.connect(url, schema=schema) as store:
        print((await store.append(stream, [NewEvent("Opened", None)])).version)  # noqa: T201


print("ready", flush=True)  # noqa: T201  # to the test
sys.stdin.readline()
asyncio.run(run(*sys.argv[1:]))
