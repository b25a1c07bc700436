"""For how long a move keeps the writers away: from the fence until all is there and compared.

Another process appends 200 events a second meanwhile. A figure is how many such pauses would fit
into a second; 10 of them are the goal of 100 ms.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import uuid

from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from benchmarks.measure import QUICK, QUICK_ROUNDS, Figure, few

from eventport import NewEvent, StoreFencedError, connect
from eventport.moving import move_events
from eventport.projections import ProjectionId, StreamCheckpoints


RATE: Final = 200
EVENTS: Final = few(10_000)
PROJECTIONS: Final = 3
ROOT: Final = Path(__file__).parents[1]
ROUNDS: Final = QUICK_ROUNDS if QUICK else 9
DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}


async def figures(folder: Path) -> AsyncIterator[Figure]:
    """Measure both backends."""
    yield await pauses("SQLite", lambda: f"sqlite:///{folder / uuid.uuid4().hex}.db")
    from benchmarks.postgres import durable_url  # noqa: PLC0415  # the writer's process needs none of it

    with durable_url() as url:
        mark = "&" if "?" in url else "?"
        yield await pauses("Postgres", lambda: f"{url}{mark}schema=m{uuid.uuid4().hex}")


async def pauses(what: str, place: Callable[[], str]) -> Figure:
    """Move a store several times, each time from a new one to a new one."""
    seen = [await pause(place(), place()) for _ in range(ROUNDS)]
    shown = ", ".join(f"{1000 * seconds:.0f}" for seconds in seen)
    print(f"{what}, pauses of writers in ms: {shown}")
    rate = 1 / statistics.median(seen)
    return Figure(f"{what}, pauses of a move that fit into a second", rate, None, 10)


async def pause(source: str, target: str) -> float:
    """Return for how many seconds a move refused appends."""
    async with connect(source) as theirs, connect(target) as ours:
        for number in range(EVENTS // 100):
            events = [NewEvent("ItemAdded", DATA) for _ in range(100)]
            await theirs.append(f"order-{number}", events)
        for number in range(PROJECTIONS):
            await StreamCheckpoints(theirs).reset(ProjectionId(f"p{number}", 1), EVENTS - number)
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.moving", source, stdout=PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        await writer.stdout.readline()
        report = await move_events(theirs, ours, to="the target")
        await writer.wait()
    assert report.is_done
    assert report.pause is not None
    return report.pause


async def write(url: str) -> None:
    """Append until the store refuses it."""
    clock = asyncio.get_running_loop().time
    async with connect(url) as store:
        begin, count = clock(), 0
        while True:
            try:
                await store.append(f"new-{count % 50}", [NewEvent("ItemAdded", DATA)])
            except StoreFencedError:
                return
            count += 1
            if count == RATE // 4:
                print("writing", flush=True)
            await asyncio.sleep(max(0.0, begin + count / RATE - clock()))


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
