"""EventStoreDB and KurrentDB against the bare client, on the double or on a real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Figure, rates

from eventport import ANY, NO_STREAM, Expectation, NewEvent

from eventport_eventstoredb import EventStoreDBEventStore
from eventport_eventstoredb.vendor import load_library


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
JSON: Final = b'{"order":"o-1","sku":"abc","quantity":2,"price":12.5}'
DOUBLE: Final = "adapters.eventstoredb.tests.double.server"


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal on EventStoreDB and KurrentDB."""
    library = load_library()
    url = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_URL")
    command = [
        sys.executable,
        "-m",
        DOUBLE,
        "26.1" if library.name == "kurrentdbclient" else "23.10",
    ]
    with subprocess.Popen(  # noqa: ASYNC220  # it starts before anything is measured
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        where = url or f"esdb://127.0.0.1:{port}?Tls=false"
        print(f"{library.name}, {'a real server' if url else 'the double of a server'}")
        bare = library.client(where)
        await bare.connect()
        try:
            async with await EventStoreDBEventStore.connect(where) as store:
                yield await append(store, bare, library.package, exact=False)
                yield await append(store, bare, library.package, exact=True)
                yield await create(store, bare, library.package)
                yield await append_at_once(store, bare, library.package)
                yield await read(store, bare)
                yield await read_all(store, bare)
        finally:
            await bare.close()
            process.kill()


async def append(store: EventStoreDBEventStore, bare: Any, package: Any, *, exact: bool) -> Figure:
    """One append after the other to one stream, each of one event."""
    count = 200

    async def ours(number: int) -> int:
        stream = f"ours-{number}-{uuid.uuid4()}"
        for version in range(count):
            expected: Expectation = version if exact else ANY
            await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=expected)
        return count

    async def theirs(number: int) -> int:
        stream = f"bare-{number}-{uuid.uuid4()}"
        for version in range(count):
            expected: Any = package.StreamState.ANY
            if exact:
                expected = version - 1 if version else package.StreamState.NO_STREAM
            event = package.NewEvent("ItemAdded", JSON)
            await bare.append_to_stream(stream, current_version=expected, events=[event])
        return count

    ours_rate, floor_rate = await rates([ours, theirs], rounds=9)
    what = "at a version" if exact else "with any"
    return Figure(f"EventStoreDB, append 1 {what} / bare client", ours_rate, floor_rate, 0.8)


async def create(store: EventStoreDBEventStore, bare: Any, package: Any) -> Figure:
    """One new stream after the other, each with `no_stream`."""
    count = 200

    async def ours(number: int) -> int:
        for stream in range(count):
            name = f"ours-new-{number}-{stream}-{uuid.uuid4()}"
            await store.append(name, [NewEvent("ItemAdded", DATA)], expected=NO_STREAM)
        return count

    async def theirs(number: int) -> int:
        for stream in range(count):
            name = f"bare-new-{number}-{stream}-{uuid.uuid4()}"
            event = package.NewEvent("ItemAdded", JSON)
            nothing = package.StreamState.NO_STREAM
            await bare.append_to_stream(name, current_version=nothing, events=[event])
        return count

    ours_rate, floor_rate = await rates([ours, theirs], rounds=9)
    return Figure(
        "EventStoreDB, no_stream on new streams / bare client", ours_rate, floor_rate, 0.9
    )


async def append_at_once(store: EventStoreDBEventStore, bare: Any, package: Any) -> Figure:
    """64 tasks that append to one stream, each one event after the other."""
    tasks, count = 64, 10

    async def at_once(append: Callable[[], Awaitable[object]]) -> int:
        async def work() -> None:
            for _ in range(count):
                await append()

        await asyncio.gather(*(work() for _ in range(tasks)))
        return tasks * count

    async def ours(number: int) -> int:
        stream = f"ours-hot-{number}-{uuid.uuid4()}"
        return await at_once(lambda: store.append(stream, [NewEvent("ItemAdded", DATA)]))

    async def theirs(number: int) -> int:
        stream, anything = f"bare-hot-{number}-{uuid.uuid4()}", package.StreamState.ANY

        def append() -> Awaitable[object]:
            event = package.NewEvent("ItemAdded", JSON)
            appending: Awaitable[object] = bare.append_to_stream(
                stream, current_version=anything, events=[event]
            )
            return appending

        return await at_once(append)

    ours_rate, floor_rate = await rates([ours, theirs], rounds=9)
    return Figure(
        "EventStoreDB, 64 tasks with any on one stream / bare client", ours_rate, floor_rate, 0.9
    )


async def read_all(store: EventStoreDBEventStore, bare: Any) -> Figure:
    """Read 5,000 events of all streams, from a position on."""
    count = 5_000
    start = (await store.append("mark", [NewEvent("Mark", None)])).position
    for number in range(10):
        events = [NewEvent("ItemAdded", DATA) for _ in range(count // 10)]
        await store.append(f"all-{number}-{uuid.uuid4()}", events)
    assert start is not None
    after = start

    async def ours(_: int) -> int:
        return len([event async for event in store.iterate_all(after=after)])

    async def theirs(_: int) -> int:
        response = await bare.read_all(commit_position=after - 1)
        return len([event async for event in response]) - 1

    ours_rate, floor_rate = await rates([ours, theirs], rounds=7)
    return Figure("EventStoreDB, read all / bare client", ours_rate, floor_rate, 0.85)


async def read(store: EventStoreDBEventStore, bare: Any) -> Figure:
    """Read a stream of 1,000 events."""
    stream = f"read-{uuid.uuid4()}"
    await store.append(stream, [NewEvent("ItemAdded", DATA) for _ in range(1_000)])

    async def ours(_: int) -> int:
        return len((await store.read(stream)).events)

    async def theirs(_: int) -> int:
        return len(await bare.get_stream(stream))

    ours_rate, floor_rate = await rates([ours, theirs], rounds=15)
    return Figure("EventStoreDB, read 1,000 events / bare client", ours_rate, floor_rate, 0.8)
