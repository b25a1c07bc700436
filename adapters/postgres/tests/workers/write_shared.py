"""Append several events at a time to streams that others write to, some in open transactions."""

from __future__ import annotations

import asyncio
import random
import sys

import asyncpg

from eventport import EventStore, NewEvent

from eventport_postgres import PostgresEventStore


async def run(url: str, schema: str, name: int, tasks: int, events: int) -> None:
    """Write so many events, and print how many appends that took."""
    rng = random.Random(name)
    appends = 0
    async with (
        await PostgresEventStore.connect(url, schema=schema) as store,
        asyncpg.create_pool(url, min_size=1, max_size=3) as pool,
    ):

        async def append(target: EventStore, stream: int, key: str, count: int) -> None:
            new = [NewEvent("Written", [key, index, count]) for index in range(count)]
            await target.append(f"s-{stream}", new)

        async def task(number: int) -> None:
            nonlocal appends
            left = events // tasks
            while left:
                count = min(left, rng.randint(1, 5))
                left -= count
                stream, key = rng.randrange(20), f"{name}-{number}-{left}"
                if rng.random() < 0.1:
                    async with pool.acquire() as connection, connection.transaction():
                        await append(store.using(connection), stream, key, count)
                        await asyncio.sleep(rng.uniform(0.001, 0.02))
                else:
                    await append(store, stream, key, count)
                appends += 1

        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(task(number))
    print(appends, flush=True)  # noqa: T201  # to the test


print("ready", flush=True)  # noqa: T201  # to the test
sys.stdin.readline()
asyncio.run(run(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
