"""The page about PostgreSQL: its programs and commands run, and so does its SQL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from adapters.postgres.tests.server import bare_connection
from anyio import to_thread
from tests.doc_examples import blocks, run_page

from eventport import NewEvent

from eventport_postgres import PostgresEventStore


PAGE = Path(__file__).parents[3] / "docs/postgres.md"


async def test_the_page_does_what_it_says(
    url: str, schema: str, admin: asyncpg.Connection, tmp_path: Path
) -> None:
    # The page names schemas and tables, so it gets a database of its own; and a role.
    await admin.execute(f"CREATE DATABASE {schema}")
    await admin.execute("DROP ROLE IF EXISTS app")
    await admin.execute("CREATE ROLE app")
    shop = urlsplit(url)._replace(path=f"/{schema}").geturl()

    def run() -> int:
        return run_page(PAGE, tmp_path, environment={"SHOP_URL": shop})

    try:
        assert await to_thread.run_sync(run) == 4
        async with bare_connection(shop) as connection:
            for block in blocks(PAGE):
                if block.language == "sql":
                    await connection.execute(block.text)
            async with (
                asyncpg.create_pool(shop, min_size=1, max_size=2, init=become_app) as pool,
                await PostgresEventStore.on_pool(
                    pool, schema="orders", migrate="explicit"
                ) as store,
            ):
                assert (await store.append("order-1", [NewEvent("OrderPaid", {})])).version == 2
                assert len((await store.read_all()).events) == 3
            await connection.execute("DROP OWNED BY app")
    finally:
        await admin.execute(f"DROP DATABASE {schema} WITH (FORCE)")
        await admin.execute("DROP ROLE app")


async def become_app(connection: asyncpg.Connection) -> None:
    await connection.execute("SET SESSION AUTHORIZATION app")
