"""PostgreSQL against bare asyncpg, on the same table, server and durability."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import uuid

from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final

import asyncpg

from adapters.postgres.tests.server import running_server  # what the tests start, too
from benchmarks.measure import MANY, QUICK, Figure, append_once, few, rates

from eventport import ANY, NO_STREAM, Expectation, NewEvent

from eventport_postgres import PostgresEventStore


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
JSON: Final = '{"order":"o-1","sku":"abc","quantity":2,"price":12.5}'
INSERT: Final = """
    INSERT INTO eventport.events (
        position, stream, version, type, data, metadata, id, recorded_at, size
    )
    VALUES (nextval('eventport.positions'), $1, 1, 'ItemAdded', $2, '{}', $3, now(), 55)
"""
POOL: Final = 16


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal on PostgreSQL."""
    with durable_url() as url:
        async for figure in _figures(url):
            yield figure


@contextmanager
def durable_url() -> Generator[str]:
    """Give the URL of a server: the one that the environment names, or one of our own."""
    if given := os.environ.get("EVENTPORT_TEST_POSTGRES_URL"):
        yield given
        return
    with running_server() as server:  # with the durability that it has by default
        yield server.url


async def _figures(url: str) -> AsyncIterator[Figure]:
    wanted = os.environ.get("EVENTPORT_BENCH_ONLY", "").split(",")
    async with await PostgresEventStore.connect(url) as store:
        pool = await asyncpg.create_pool(url, min_size=POOL, max_size=POOL)
        settings = ["server_version", "fsync", "synchronous_commit", "shared_buffers"]
        shown = [f"{name}={await pool.fetchval('SHOW ' + name)}" for name in settings]
        print(f"PostgreSQL: {', '.join(shown)}")
        measures: dict[str, Callable[[], Awaitable[Figure]]] = {
            "one": lambda: one_task(store, pool),
            "64": lambda: many_tasks(store, pool, 64, 2.5),
            "256": lambda: many_tasks(store, pool, 256, 5),
            "hot": lambda: many_tasks(store, pool, 64, 1.5, hot=True),
            "tags one": lambda: conditional(store, pool, 1, 0.5),
            "tags 64": lambda: conditional(store, pool, 64, 3),
            "processes": lambda: processes(url),
            "read": lambda: read_stream(store, pool),
            "live": lambda: delivery(url),
            "import": lambda: import_file(url, lambda index: index // 1000 * 100 + index % 100),
            "import many": lambda: import_file(url, lambda index: index % 4_000, "4,000 streams"),
            "growth": lambda: growth(url, pool),
        }
        for name, measure in measures.items():
            if wanted == [""] or name in wanted:
                yield await measure()
        await pool.close()


async def append(store: PostgresEventStore, stream: str, expected: Expectation = NO_STREAM) -> None:
    """Append one event."""
    await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=expected)


async def insert(target: Any, stream: str) -> None:
    """Insert the row that an append of ours also writes."""
    await target.execute(INSERT, stream, JSON, uuid.uuid4())


async def in_tasks(tasks: int, count: int, work: Callable[[str], Awaitable[None]]) -> int:
    """Do something so many times, each with a stream of its own, in so many tasks."""
    run = uuid.uuid4().hex

    async def task(name: int) -> None:
        for index in range(count // tasks):
            await work(f"{run}-{name}-{index}")

    async with asyncio.TaskGroup() as group:
        for name in range(tasks):
            group.create_task(task(name))
    return count // tasks * tasks


async def one_task(store: PostgresEventStore, pool: asyncpg.Pool) -> Figure:
    """One append after the other, against one statement after the other on one connection."""
    async with pool.acquire() as bare:
        ours_rate, floor_rate = await rates(
            [
                lambda _: in_tasks(1, few(300), lambda stream: append(store, stream)),
                lambda _: in_tasks(1, few(300), lambda stream: insert(bare, stream)),
            ],
            rounds=11,
        )
    return Figure("Postgres, one task, append 1 / bare INSERT", ours_rate, floor_rate, 0.85)


async def many_tasks(
    store: PostgresEventStore, pool: asyncpg.Pool, tasks: int, goal: float, *, hot: bool = False
) -> Figure:
    """Appends of many tasks, against single INSERTs over a pool."""

    async def ours(stream: str) -> None:
        if hot:
            await append(store, "hot", ANY)
        else:
            await append(store, stream)

    ours_rate, floor_rate = await rates(
        [
            lambda _: in_tasks(tasks, few(6_400), ours),
            lambda _: in_tasks(tasks, few(3_200), lambda stream: insert(pool, stream)),
        ],
        rounds=7,
    )
    what = f"Postgres, {tasks} tasks, append 1{' to one stream' if hot else ''} / INSERTs, pool"
    return Figure(what, ours_rate, floor_rate, goal)


async def conditional(
    store: PostgresEventStore, pool: asyncpg.Pool, tasks: int, goal: float
) -> Figure:
    """Appends with a condition on a tag that no other has, against single INSERTs without any."""
    count = few(6_400) if tasks > 1 else few(300)
    async with pool.acquire() as bare:
        target: Any = pool if tasks > 1 else bare
        ours_rate, floor_rate = await rates(
            [
                lambda _: in_tasks(tasks, count, lambda tag: append_once(store, tag)),
                lambda _: in_tasks(tasks, count // 2, lambda stream: insert(target, stream)),
            ],
            rounds=7,
        )
    what = f"Postgres, {tasks} tasks, conditional, own tags / INSERTs"
    return Figure(what.replace("1 tasks", "one task"), ours_rate, floor_rate, goal)


async def processes(url: str) -> Figure:
    """Four processes with 16 tasks each, against the same with bare INSERTs."""

    async def run(kind: str) -> float:
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.postgres",
                kind,
                url,
                str(few(2_000)),
                stdin=PIPE,
                stdout=PIPE,
            )
            for _ in range(4)
        ]
        for worker in workers:
            await answer(worker)
        start = perf_counter()
        for worker in workers:
            if worker.stdin is not None:
                worker.stdin.close()
        done = sum([int(await answer(worker)) for worker in workers])
        rate = done / (perf_counter() - start)
        for worker in workers:
            await worker.wait()
        return rate

    seen: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(3 if QUICK else 5):
        for kind in list(seen)[:: -1 if number % 2 else 1]:
            seen[kind].append(await run(kind))
    ours_rate, floor_rate = map(statistics.median, seen.values())
    what = "Postgres, 4 processes x 16 tasks, append 1 / INSERTs, same shape"
    return Figure(what, ours_rate, floor_rate, 1.0)


async def answer(worker: Process) -> bytes:
    """Return the next line that a process prints."""
    return b"" if worker.stdout is None else await worker.stdout.readline()


async def work(kind: str, url: str, count: str) -> None:
    """Be one of the processes."""
    async with await PostgresEventStore.connect(url) as store:
        pool = await asyncpg.create_pool(url, min_size=16, max_size=16)
        target = (
            (lambda stream: append(store, stream))
            if kind == "ours"
            else (lambda stream: insert(pool, stream))
        )
        await in_tasks(16, 64, target)
        print("ready", flush=True)
        sys.stdin.read()
        print(await in_tasks(16, int(count), target), flush=True)
        await pool.close()


async def read_stream(store: PostgresEventStore, pool: asyncpg.Pool) -> Figure:
    """Read a stream of 10,000 events, against a bare fetch of its rows, as it comes."""
    count = 10_000
    for _ in range(10):
        await store.append("long", [NewEvent("ItemAdded", DATA) for _ in range(count // 10)])
    sql = """
        SELECT position, stream, version, type, data, binary_data, metadata, id, recorded_at
        FROM eventport.events WHERE stream = $1 ORDER BY version
    """

    async def ours(_: int) -> int:
        return len((await store.read("long")).events)

    async def theirs(_: int) -> int:
        return len(await pool.fetch(sql, "long"))

    ours_rate, floor_rate = await rates([ours, theirs], rounds=15)
    return Figure("Postgres, read 10,000 events / bare fetch", ours_rate, floor_rate, 0.6)


async def begun(store: PostgresEventStore) -> int:
    """Append something, and return its position."""
    return (await store.append("begun", [NewEvent("Begun", None)])).position or 0


async def delivery(url: str) -> Figure:
    """How long an event takes from its commit in one store to the handler in another."""
    waits: list[float] = []
    count, rate = few(6_000), 2_000
    async with (
        await PostgresEventStore.connect(url) as writer,
        await PostgresEventStore.connect(url) as reader,
        reader.subscribe(after=await begun(writer)) as events,
        asyncio.TaskGroup() as group,
    ):
        committed: dict[uuid.UUID, float] = {}
        seen: dict[uuid.UUID, float] = {}

        async def handle() -> None:
            async for event in events:
                if event.type == "Timed":
                    seen[event.id] = perf_counter()
                    if len(seen) == count:
                        return

        async def commit() -> None:
            event = NewEvent("Timed", DATA)
            await writer.append(f"live-{event.id}", [event])
            committed[event.id] = perf_counter()

        handler = group.create_task(handle())
        await asyncio.sleep(0.5)
        begin = perf_counter()
        for index in range(count):
            delay = begin + index / rate - perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            group.create_task(commit())
        await handler
    waits = sorted(max(0.0, seen[id_] - committed[id_]) for id_ in committed)
    median, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(
        f"Postgres, delivery at {rate}/s: median {median * 1e3:.1f} ms (goal 10), "
        f"p99 {late * 1e3:.1f} ms (goal 50)"
    )
    return Figure(
        "Postgres, deliveries within 50 ms, per 100",
        100 * sum(w < 0.05 for w in waits) / len(waits),
        None,
        99,
    )


async def import_file(
    url: str, stream_of: Callable[[int], int], what: str = "100 streams a batch"
) -> Figure:
    """`eventport import` of a fifth of a large store, as a program of its own."""
    count = MANY // 5
    with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
        for index in range(count):
            line = {
                "stream": f"{what}-{stream_of(index)}",
                "type": "ItemAdded",
                "data": DATA,
                "metadata": {},
                "id": str(uuid.uuid4()),
            }
            file.write(json.dumps(line) + "\n")
        file.flush()
        start = time()
        program = Path(sys.executable).with_name("eventport")
        process = await asyncio.create_subprocess_exec(
            program, "import", file.name, "--store", url, stderr=PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(said.decode())
    name = f"Postgres, eventport import, {what}, events"
    return Figure(name, count / (time() - start), None, 25_000)


async def growth(url: str, pool: asyncpg.Pool) -> Figure:
    """Append to a store of a million events, against one of a thousand."""
    async with (
        await PostgresEventStore.connect(url, schema="large") as large,
        await PostgresEventStore.connect(url, schema="small") as small,
    ):
        for schema, count in (("large", MANY), ("small", 1_000)):
            await pool.execute(
                f"""
                INSERT INTO {schema}.events
                SELECT nextval('{schema}.positions'), 'filled-' || n / 10, n % 10 + 1,
                    'ItemAdded', $1, NULL, '{{}}', gen_random_uuid(), now(), 55
                FROM generate_series(0, {count - 1}) AS n
                """,
                JSON,
                timeout=300,
            )
        await pool.execute("CHECKPOINT", timeout=300)
        ours_rate, floor_rate = await rates(
            [
                lambda _: in_tasks(64, few(3_200), lambda stream: append(large, stream)),
                lambda _: in_tasks(64, few(3_200), lambda stream: append(small, stream)),
            ],
            rounds=9,
        )
    return Figure(f"Postgres, append at {MANY:,} events / at 1,000", ours_rate, floor_rate, 0.8)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:4]))
