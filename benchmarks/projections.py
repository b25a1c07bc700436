"""Projections on PostgreSQL: how fast a batch handler catches up with a store."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import postgres
from benchmarks.measure import Contestant, Figure, few, rates

from eventport import NewEvent, RecordedEvent
from eventport.projections import PartitionedRunner, Projection, ProjectionContext, Runner

from eventport_postgres import PostgresEventStore
from eventport_postgres.projections import Connection, PostgresCheckpoints


EVENTS: Final = 100_000


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal."""
    with postgres.durable_url() as url:
        yield await catch_up(url)
    with postgres.durable_url() as url:
        yield await in_parts(url, 4, milliseconds=1, events=10_000, goal=2)
    with postgres.durable_url() as url:
        yield await in_parts(url, 8, milliseconds=20, events=2_000, goal=5)


async def catch_up(url: str) -> Figure:
    """Project events into a table, a row each, exactly once, from the beginning."""
    async with (
        await PostgresEventStore.connect(url) as store,
        PostgresCheckpoints.connect(url) as checkpoints,
    ):
        for number in range(EVENTS // 1000):
            await store.append(f"order-{number}", _events())
        last = (await store.append("end", [NewEvent("ItemAdded", postgres.DATA)])).position or 0

        async def ours(number: int) -> int:
            runner = Runner(store, _projection(f"items-{number}", number), checkpoints)
            running = asyncio.create_task(runner.run())
            await runner.wait_until(last)
            running.cancel()
            await asyncio.wait([running])
            return EVENTS

        (rate,) = await rates([ours], rounds=5)
    return Figure("Postgres, projection catches up, batches", rate, None, 20_000)


async def in_parts(url: str, parts: int, *, milliseconds: int, events: int, goal: float) -> Figure:
    """Project events with a handler that waits for another service, in parts and in one."""
    events = few(events)
    async with (
        await PostgresEventStore.connect(url) as store,
        PostgresCheckpoints.connect(url, pool_size=parts + 2) as checkpoints,
    ):
        last = 0
        for number in range(100):
            new = [NewEvent("ItemAdded", postgres.DATA) for _ in range(events // 100)]
            last = (await store.append(f"order-{number}", new)).position or 0

        def contestant(partitions: int) -> Contestant:
            async def handle(number: int) -> int:
                projection = _waiting(f"waits-{partitions}-{number}", partitions, milliseconds)
                runner = PartitionedRunner(store, projection, checkpoints)
                running = asyncio.create_task(runner.run())
                await runner.wait_until(last)
                running.cancel()
                await asyncio.wait([running])
                return events

            return handle

        divided, whole = await rates([contestant(parts), contestant(1)], rounds=3)
    what = f"Postgres, handlers that wait {milliseconds} ms, {parts} parts to 1"
    return Figure(what, divided, whole, goal)


def _waiting(name: str, partitions: int, milliseconds: int) -> Projection[Connection]:
    projection = Projection[Connection](name, partitions=partitions, batch_size=50)
    table = name.replace("-", "_")

    @projection.prepare
    async def create(context: ProjectionContext[Connection]) -> None:
        await context.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (stream text PRIMARY KEY, events bigint)"
        )

    @projection.on("ItemAdded")
    async def add(event: RecordedEvent, context: ProjectionContext[Connection]) -> None:
        await asyncio.sleep(milliseconds / 1000)  # another service
        await context.connection.execute(
            f"INSERT INTO {table} AS t VALUES ($1, 1) "  # a name of ours
            "ON CONFLICT (stream) DO UPDATE SET events = t.events + 1",
            event.stream,
        )

    return projection


def _events() -> list[NewEvent]:
    return [NewEvent("ItemAdded", postgres.DATA) for _ in range(1000)]


def _projection(name: str, number: int) -> Projection[Connection]:
    projection = Projection[Connection](name)
    table = f"items_{number}"

    @projection.prepare
    async def create(context: ProjectionContext[Connection]) -> None:
        await context.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (stream text, version bigint, sku text, "
            "quantity bigint, PRIMARY KEY (stream, version))"
        )

    @projection.on_batch("ItemAdded")
    async def add(events: Sequence[RecordedEvent], context: ProjectionContext[Connection]) -> None:
        rows = [(e.stream, e.version, e.data["sku"], e.data["quantity"]) for e in events]
        await context.connection.copy_records_to_table(table, records=rows)

    return projection
