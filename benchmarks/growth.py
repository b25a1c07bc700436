"""How cost grows with events, tasks and processes, on Postgres and SQLite; writes JSON.

`nox -s growth` runs it, with `--quick` for fewer rounds and smaller stores. All shapes take turns,
round by round, so that only their ratios mean something: each rate is also given as a ratio to the
first of its row.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile

from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

import asyncpg

from benchmarks.measure import QUICK
from benchmarks.postgres import durable_url, in_tasks
from benchmarks.sqlite import append, fill

from eventport import EventStore, connect


HERE: Final = Path(__file__).parent
SIZES: Final = (1_000, 10_000, 100_000) if QUICK else (1_000, 10_000, 100_000, 1_000_000)
TASKS: Final = (1, 4, 16, 64, 256, 1_024)
PROCESSES: Final = (1, 2, 4, 8)
ROUNDS: Final = 3 if QUICK else 5
SECONDS: Final = 0.2 if QUICK else 0.5
"""About how long a round takes."""

Round: TypeAlias = Callable[[], Awaitable[float]]
"""Does something for a while, and returns how many things it did in a second."""


async def appends(store: EventStore, tasks: int) -> float:
    """Append one event to each of many new streams, and return how many in a second."""
    done, start = 0, perf_counter()
    while perf_counter() - start < SECONDS:
        done += await in_tasks(tasks, tasks * 4, lambda stream: append(store, stream))
    return done / (perf_counter() - start)


async def reads(store: EventStore, size: int) -> float:
    """Read pages of 500 events from the middle of the log, and return the events in a second."""
    done, start = 0, perf_counter()
    while perf_counter() - start < SECONDS:
        done += len((await store.read_all(after=size // 2, max_count=500)).events)
    return done / (perf_counter() - start)


async def medians(rounds: Sequence[Round]) -> list[float]:
    """Let all take turns; return the median of each."""
    seen: list[list[float]] = [[] for _ in rounds]
    for number in range(ROUNDS):
        for index in range(len(rounds))[:: -1 if number % 2 else 1]:
            seen[index].append(await rounds[index]())
    return [statistics.median(values) for values in seen]


@asynccontextmanager
async def sqlite(folder: Path, name: str, size: int) -> AsyncGenerator[EventStore]:
    """Open a new store in a file, with events in it."""
    async with connect(f"sqlite:///{folder / name}.db") as store:
        await store.read_all(max_count=1)
        fill(folder / f"{name}.db", size)
        yield store


@asynccontextmanager
async def postgres(url: str, name: str, size: int) -> AsyncGenerator[EventStore]:
    """Open a new store in a schema, with events in it."""
    async with connect(url, schema=name) as store:
        connection: Any = await asyncpg.connect(url)
        await connection.execute(
            f"""
            INSERT INTO {name}.events
            SELECT nextval('{name}.positions'), 'filled-' || n / 10, n % 10 + 1, 'ItemAdded',
                '{{"order":"o-1"}}', NULL, '{{}}', gen_random_uuid(), now(), 17
            FROM generate_series(0, {size - 1}) AS n
            """,
            timeout=300,
        )
        await connection.execute("CHECKPOINT")
        await connection.close()
        yield store


async def answer(worker: Process) -> bytes:
    """Return the next line that a process prints."""
    return b"" if worker.stdout is None else await worker.stdout.readline()


async def in_processes(url: str, count: int) -> float:
    """Let processes append at the same time with 16 tasks each; return their appends a second."""
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.growth", "worker", url, stdin=PIPE, stdout=PIPE
        )
        for _ in range(count)
    ]
    for worker in workers:
        await answer(worker)
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    return sum([float(await answer(worker)) for worker in workers])


async def work(url: str) -> None:
    """Be one of the processes."""
    async with connect(url) as store:
        await append(store, f"begun-{os.getpid()}")
        print("ready", flush=True)
        sys.stdin.read()
        print(await appends(store, 16), flush=True)


async def grown(url: str, folder: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Measure everything: by backend, by what is done, and by how much of it there is."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for backend in ("SQLite", "Postgres"):
        rows = found[backend] = {}
        async with AsyncExitStack() as stack:
            stores: list[EventStore] = []
            for size in SIZES:
                name = f"size_{size}"
                opened = (
                    sqlite(folder, name, size) if backend == "SQLite" else postgres(url, name, size)
                )
                stores.append(await stack.enter_async_context(opened))
            rates = await medians([partial(appends, store, 64) for store in stores])
            rows["append 1, 64 tasks, by events in the store"] = dict(
                zip(SIZES, rates, strict=True)
            )
            pages = [partial(reads, *pair) for pair in zip(stores, SIZES, strict=True)]
            rows["events read from the middle, by events in the store"] = dict(
                zip(SIZES, await medians(pages), strict=True)
            )
            rates = await medians([partial(appends, stores[0], tasks) for tasks in TASKS])
            rows["append 1, by tasks"] = dict(zip(TASKS, rates, strict=True))
        place = f"sqlite:///{folder / 'processes.db'}" if backend == "SQLite" else url
        rates = await medians([partial(in_processes, place, count) for count in PROCESSES])
        rows["append 1, 16 tasks in each, by processes"] = dict(zip(PROCESSES, rates, strict=True))
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the result to the file that is named, or to `growth.json`."""
    if arguments[:1] == ["worker"]:
        asyncio.run(work(arguments[1]))
        return
    names = [argument for argument in arguments if not argument.startswith("-")]
    file = Path(names[0]) if names else HERE / "growth.json"
    with durable_url() as url, tempfile.TemporaryDirectory() as name:
        found = asyncio.run(grown(url, Path(name)))
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
