"""MongoDB against the bare driver, on documents of the same form and the same durability."""

from __future__ import annotations

import asyncio
import os
import time
import uuid

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from adapters.mongodb.tests.servers import URL_VARIABLE, Server, new_database
from benchmarks.measure import Figure, rates
from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern

from eventport import NO_STREAM, NewEvent

from eventport_mongodb import MongoDBEventStore


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
TASKS: Final = 64
EACH: Final = 8
EVENTS: Final = 10_000


def document(position: int, stream: str, version: int = 1) -> dict[str, Any]:
    """Return the document that an append of ours also writes."""
    event = {"id": uuid.uuid4(), "type": "ItemAdded", "data": DATA, "metadata": {}}
    return {
        "_id": position,
        "stream": stream,
        "version": version,
        "count": 1,
        "at": time.time_ns() // 1_000,
        "events": [event],
    }


async def figures(folder: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal on MongoDB."""
    server = Server(folder)
    url = os.environ.get(URL_VARIABLE)
    if url is None:
        server.start()
        url = server.url
    try:
        async with AsyncMongoClient[Any](url) as client:
            version = (await client.server_info())["version"]
        what = "started for this" if url == server.url else "server"
        print(f"MongoDB {version} ({what}), w: majority, j: true")
        for tasks in (1, TASKS):
            async with new_database(url) as place:
                yield await append(place, tasks)
        async with new_database(url) as place:
            yield await read(place)
    finally:
        server.kill()


async def append(url: str, tasks: int) -> Figure:
    """Append one event at a time from so many tasks, each to a new stream."""
    each = EACH if tasks > 1 else 200
    async with (
        await MongoDBEventStore.connect(url) as store,
        await MongoDBEventStore.connect(url, collection="bare"),  # it makes the same index
        AsyncMongoClient[Any](url, uuidRepresentation="standard") as client,
    ):
        bare = client.get_default_database().get_collection(
            "bare", write_concern=WriteConcern("majority", j=True)
        )
        position = 0

        async def ours(number: int) -> int:
            async def work(task: int) -> None:
                for index in range(each):
                    stream = f"order-{number}-{task}-{index}"
                    await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=NO_STREAM)

            await asyncio.gather(*map(work, range(tasks)))
            return tasks * each

        async def floor(number: int) -> int:
            async def work(task: int) -> None:
                nonlocal position
                for index in range(each):
                    position += 1
                    await bare.insert_one(document(position, f"order-{number}-{task}-{index}"))

            await asyncio.gather(*map(work, range(tasks)))
            return tasks * each

        seen, compared = await rates([ours, floor], rounds=9)
    plural = "s" if tasks > 1 else ""
    goal = 2.0 if tasks > 1 else 0.8
    what = f"MongoDB, {tasks} task{plural}, append 1 / bare insert_one"
    return Figure(what, seen, compared, goal)


async def read(url: str) -> Figure:
    """Read a long stream, against a find of the same documents."""
    async with (
        await MongoDBEventStore.connect(url) as store,
        AsyncMongoClient[Any](url, uuidRepresentation="standard") as client,
    ):
        bare = client.get_default_database()["events"]
        await bare.insert_many([document(n, "long", n) for n in range(1, EVENTS + 1)])

        async def ours(_: int) -> int:
            return len((await store.read("long")).events)

        async def floor(_: int) -> int:
            return len(await bare.find({"stream": "long"}).sort("version").to_list())

        seen, compared = await rates([ours, floor], rounds=5)
    return Figure(f"MongoDB, read {EVENTS:,} events / bare find", seen, compared, 0.5)
