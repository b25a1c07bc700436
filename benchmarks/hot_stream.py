"""Decisions on one hot stream: a gate in one process, against folding, appending and retrying.

Run with a URL, it is one of the processes that fold, append and retry.
"""

from __future__ import annotations

import asyncio
import sys

from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from subprocess import PIPE
from time import perf_counter
from typing import Final, Literal, cast
from uuid import uuid4

from adapters.postgres.tests.server import server_url  # what the tests start, too
from benchmarks.measure import QUICK, QUICK_ROUNDS, Figure
from msgspec import Struct

from eventport import ConcurrencyError, EventStore, NewEvent
from eventport.commands import CommandHandler, Decider
from eventport.typed import EventTypes

from eventport_postgres import PostgresEventStore


TASKS: Final = 64
PROCESSES: Final = 4
SECONDS: Final = 1.5 if QUICK else 4.0
ROUNDS: Final = 5


class Counted(Struct, frozen=True):
    """The one kind of event."""

    by: int


COUNTER: Final = Decider[int, Literal["count"], Counted](
    types=EventTypes[Counted](Counted),
    initial=int,
    evolve=lambda count, event: count + event.by,
    decide=lambda _, __: [Counted(1)],
)


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure decisions on Postgres."""
    ours: list[float] = []
    floor: list[float] = []
    with server_url() as url:
        schema = f"bench_{uuid4().hex}"
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            for _number in range(QUICK_ROUNDS if QUICK else ROUNDS):
                ours.append(await gated(store) / SECONDS)
                floor.append(await retried(url, schema) / SECONDS)
    gate, retry = median(ours), median(floor)
    yield Figure("Postgres, one hot stream, decisions through a gate", gate, None, 5_000)
    yield Figure("Postgres, one hot stream, gate / fold, append, retry", gate, retry, 10)


async def gated(store: EventStore) -> int:
    """Decide in 64 tasks for a while; return how many decisions a round has."""
    handler = CommandHandler(store, COUNTER, gate=True)
    stream, end, count = f"hot-{uuid4()}", perf_counter() + SECONDS, 0

    async def task() -> None:
        nonlocal count
        while perf_counter() < end:
            await handler.handle(stream, "count")
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(task())
    return count


async def retried(url: str, schema: str) -> int:
    """Let processes fold, append and retry for as long; return how many decisions they made."""
    stream = f"hot-{uuid4()}"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.hot_stream",
            url,
            schema,
            stream,
            str(SECONDS),
            stdin=PIPE,
            stdout=PIPE,
        )
        for _ in range(PROCESSES)
    ]
    pipes = [
        (cast("asyncio.StreamWriter", one.stdin), cast("asyncio.StreamReader", one.stdout))
        for one in processes
    ]
    for _, answer in pipes:
        await answer.readline()  # it is ready
    for order, _ in pipes:
        order.write(b"go\n")
    counts = [int(await answer.readline()) for _, answer in pipes]
    for one in processes:
        await one.wait()
    return sum(counts)


async def retry(url: str, schema: str, stream: str, seconds: str) -> None:
    """Be one of these processes."""
    async with await PostgresEventStore.connect(url, schema=schema) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        end, count = perf_counter() + float(seconds), 0

        async def task() -> None:
            nonlocal count
            while perf_counter() < end:
                folded = await store.aggregate(stream, lambda n, event: n + event.data["by"], int)
                try:
                    event = NewEvent("Counted", {"by": 1})
                    await store.append(stream, [event], expected=folded.version)
                except ConcurrencyError:
                    continue
                count += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS // PROCESSES):
                group.create_task(task())
    print(count, flush=True)


if __name__ == "__main__":
    asyncio.run(retry(*sys.argv[1:5]))
