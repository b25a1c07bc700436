"""Proves that a transaction of a projection is one, whatever was cancelled before it."""

from __future__ import annotations

import asyncio

import asyncpg

from adapters.postgres.tests.server import bare_connection

from eventport.projections import ProjectionId

from eventport_conformance.waiting import no_hang
from eventport_postgres.projections import PostgresCheckpoints


ID = ProjectionId("orders", 1)
STEPS = 25


async def test_what_was_committed_is_there_after_a_cancelled_beginning(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    """Those that are cancelled leave the connection behind in any state there is."""
    await admin.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.seen (n int)")
    written: list[int] = []
    async with (
        no_hang(),
        PostgresCheckpoints.connect(url, schema=schema, pool_size=1) as checkpoints,
        bare_connection(url) as bare,
    ):
        lease = await checkpoints.acquire(ID, "me", 60.0)
        assert lease is not None

        async def write(number: int) -> None:
            async with lease.advance(number) as connection:
                await connection.execute(f"INSERT INTO {schema}.seen VALUES ($1)", number)
            written.append(number)

        for number in range(1, 4 * STEPS):
            task = asyncio.create_task(write(2 * number))
            for _ in range(number % STEPS):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await write(2 * number + 1)
            found = {row["n"] for row in await bare.fetch(f"SELECT n FROM {schema}.seen")}
            # One that was cancelled may have been committed; then all of it was.
            assert set(written) <= found
            assert (await checkpoints.load(ID)).position == max(found)
