"""EventStoreDB and KurrentDB against the bare client, on the double or on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from measure import Figure, rates

from eventport import ANY, Expectation, NewEvent

from eventport_eventstoredb import EventStoreDBEventStore
from eventport_eventstoredb.vendor import load_library


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
JSON: Final = b'{"order":"o-1","sku":"abc","quantity":2,"price":12.5}'
DOUBLE: Final = Path(__file__).parents[1] / "adapters/eventstoredb/tests/double/server.py"


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal on EventStoreDB and KurrentDB."""
    library = load_library()
    url = os.environ.get("EVENTPORT_TEST_EVENTSTOREDB_URL")
    command = [
        sys.executable,
        str(DOUBLE),
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
                yield await read(store, bare)
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
