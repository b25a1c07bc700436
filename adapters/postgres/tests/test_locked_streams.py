"""Proves that a long transaction on a stream holds up only appends to that stream."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.server import bare_connection

from eventport import NewEvent, StoreUnavailableError
from eventport.transactions import Transaction

from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_postgres import PostgresEventStore


@asynccontextmanager
async def own(url: str, schema: str, **options: Any) -> AsyncGenerator[PostgresEventStore, None]:
    async with await PostgresEventStore.connect(url, schema=schema, **options) as store:
        yield store


@asynccontextmanager
async def on_pool(
    url: str, schema: str, **options: Any
) -> AsyncGenerator[PostgresEventStore, None]:
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=3) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema, **options) as store,
    ):
        yield store


@asynccontextmanager
async def with_handlers(
    url: str, schema: str, **options: Any
) -> AsyncGenerator[PostgresEventStore, None]:
    async def handler(_: object, __: object) -> None:
        pass

    async with own(url, schema, **options) as store:
        store.inline(handler)
        yield store


@pytest.mark.parametrize("opened", [own, on_pool, with_handlers])
async def test_appends_to_other_streams_go_on_however_many_wait(
    url: str, schema: str, admin: asyncpg.Connection, opened: Callable[..., Any]
) -> None:
    async with no_hang(seconds=5 * HANG_SECONDS), opened(url, schema) as store:
        await store.append("free-0", [NewEvent("E", 0)])
        async with admin.transaction():
            await store.using(admin).append("locked", [NewEvent("E", "first")])
            # Each of these batches holds the locked stream and others.
            waiting = []
            for number in range(40):
                waiting.append(asyncio.create_task(store.append("locked", [NewEvent("E", number)])))
                await asyncio.gather(
                    *(store.append(f"free-{n}", [NewEvent("E", number)]) for n in range(3))
                )
            connections = await admin.fetchval(
                "SELECT count(DISTINCT l.pid) FROM pg_locks l WHERE NOT l.granted"
            )
            assert connections <= 1
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)
        events = (await store.read("locked")).events
        assert [event.data for event in events] == ["first", *range(40)]


@pytest.mark.parametrize("opened", [own, on_pool])
async def test_only_appends_that_wait_too_long_fail(
    url: str, schema: str, admin: asyncpg.Connection, opened: Callable[..., Any]
) -> None:
    async with opened(url, schema, timeout=2) as store:
        await store.append("free", [NewEvent("E", 0)])
        async with admin.transaction():
            await store.using(admin).append("locked", [NewEvent("E", "first")])
            waiting = asyncio.create_task(store.append("locked", [NewEvent("E", "late")]))
            while not waiting.done():
                await store.append("free", [NewEvent("E", 1)])
            with pytest.raises(StoreUnavailableError, match=r"'locked'.*nothing was written"):
                await waiting
    rows = await admin.fetch(f"SELECT data::text FROM \"{schema}\".events WHERE stream = 'locked'")
    assert [row[0] for row in rows] == ['"first"']


async def test_a_stream_with_many_writers_starves_no_append(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    # It is locked whenever one looks, but by another transaction each time.
    async with no_hang(seconds=5 * HANG_SECONDS), own(url, schema) as store:
        await store.append("hot", [NewEvent("E", 0)])
        waiting = asyncio.Event()

        async def hold() -> None:
            async with bare_connection(url) as connection:
                while not waiting.is_set():
                    async with connection.transaction():
                        await store.using(connection).append("hot", [NewEvent("E", "held")])
                        await asyncio.sleep(0.07)  # longer than a batch waits

        holders = [asyncio.create_task(hold()) for _ in range(2)]
        for number in range(3):
            await store.append("hot", [NewEvent("E", number)])
        waiting.set()
        await asyncio.gather(*holders)


async def test_what_handlers_do_keeps_its_own_lock_timeout(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    seen: list[str] = []

    async def look(_: object, transaction: Transaction[asyncpg.Connection[Any]]) -> None:
        seen.append(await transaction.connection.fetchval("SHOW lock_timeout"))

    store.inline(look)
    await store.append("s", [NewEvent("E", 0)])
    await asyncio.gather(*(store.append(f"s-{n}", [NewEvent("E", 0)]) for n in range(3)))
    assert set(seen) == {"0"}
