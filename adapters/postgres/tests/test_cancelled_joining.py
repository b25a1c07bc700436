"""Proves that a cancelled append leaves nothing in the caller's transaction."""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.server import Server, url_through

from eventport import RecordedEvent, StoreUnavailableError
from eventport.transactions import Transaction

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.helpers import make
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_postgres import PostgresEventStore


async def wait_and_ask(
    _: Sequence[RecordedEvent], transaction: Transaction[asyncpg.Connection]
) -> None:
    """Wait for something else, then for the server, then for something else."""
    await asyncio.sleep(0)
    await transaction.connection.execute("SELECT 1")
    await asyncio.sleep(0)


async def committed(connection: asyncpg.Connection, schema: str, stream: str) -> int:
    """Commit the open transaction, and return how many events of a stream it has left."""
    await connection.execute("COMMIT")
    count = f'SELECT count(*) FROM "{schema}".events WHERE stream = $1'
    found: int = await connection.fetchval(count, stream)
    return found


@pytest.mark.parametrize("handlers", [0, 1])
async def test_an_append_that_is_cancelled_at_any_wait_leaves_nothing(
    url: str, schema: str, store: PostgresEventStore, handlers: int
) -> None:
    runs = 0
    if handlers:
        store.inline(wait_and_ask)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")

        async def work() -> None:
            await store.using(connection).append(f"s-{runs}", make(2))

        async for run in cancel_everywhere("asyncio", work):
            left = await committed(connection, schema, f"s-{runs}")
            assert left == (2 if run.finished else 0), str(run)
            await connection.execute("BEGIN")
            runs += 1
    finally:
        await connection.close()
    assert runs > 4


async def test_a_handler_that_does_not_end_leaves_nothing(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async with await PostgresEventStore.connect(url, schema=schema, timeout=0.5) as store:

        @store.inline
        async def never(_: object, __: object) -> None:
            await asyncio.sleep(3600)

        async with no_hang(), admin.transaction():
            with pytest.raises(StoreUnavailableError):
                await store.using(admin).append("s", make(2))
            assert await admin.fetchval("SELECT 1") == 1  # the transaction is usable
        assert not (await store.read("s")).exists


async def test_an_append_that_is_cancelled_on_a_silent_connection_ends(
    line: Proxy, server: Server, schema: str
) -> None:
    inside = asyncio.Event()
    async with await PostgresEventStore.connect(server.url, schema=schema) as store:

        @store.inline
        async def silence(_: object, __: object) -> None:
            line.silence(new=False)
            inside.set()
            await asyncio.sleep(3600)

        connection: Any = await asyncpg.connect(url_through(line))
        try:
            await connection.execute("BEGIN")
            appending = asyncio.create_task(store.using(connection).append("s", make(2)))
            await inside.wait()
            for _ in range(2):
                appending.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([appending], timeout=HANG_SECONDS)
            assert appending.cancelled()
            assert connection.is_closed()
        finally:
            connection.terminate()
        assert not (await store.read("s")).exists


async def test_no_connection_goes_back_to_the_callers_pool_with_a_transaction_open(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    runs = 0
    async with (
        asyncpg.create_pool(url, min_size=2, max_size=2) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        store.inline(wait_and_ask)

        async def work() -> None:
            await store.append(f"s-{runs}", make(2))

        async for run in cancel_everywhere("asyncio", work):
            async with pool.acquire() as connection:
                assert not connection.is_in_transaction(), str(run)
                pid = connection.get_server_pid()
                state = await admin.fetchval(
                    "SELECT state FROM pg_stat_activity WHERE pid = $1", pid
                )
                assert state == "idle", str(run)
            head = (await store.read(f"s-{runs}")).version
            assert head in ({2} if run.finished else {0, 2}), str(run)
            runs += 1
    assert runs > 4
