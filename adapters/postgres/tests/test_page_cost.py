"""Proves that a page of the global order costs what is on it, whatever the server knows."""

from __future__ import annotations

import asyncpg
import pytest

from eventport import NewEvent

from eventport_postgres import PostgresEventStore


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("types", [None, ["Counted"]])
async def test_a_page_looks_at_no_more_events_than_are_on_it(
    store: PostgresEventStore,
    admin: asyncpg.Connection,
    schema: str,
    types: list[str] | None,
    *,
    analyzed: bool,
) -> None:
    table = f'"{schema}".events'
    await admin.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    for number in range(10):
        await store.append(f"s-{number}", [NewEvent("Counted", {"n": n}) for n in range(1_000)])
    if analyzed:
        await admin.execute(f"ANALYZE {table}")
    page = f'SELECT count(*) FROM "{schema}".read_all($1, 100, $2, NULL, 100000, 1000000)'
    seen = f"""
        SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
        FROM pg_stat_xact_user_tables WHERE relid = '{table}'::regclass
    """
    async with admin.transaction():
        for number in range(20):  # the server changes its mind after five times
            assert await admin.fetchval(page, number * 100, types) == 101
        assert await admin.fetchval(seen) <= 20 * 110
