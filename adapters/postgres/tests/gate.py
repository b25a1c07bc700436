"""A gate inside the server: appends of the type ``Gated`` wait in front of it, however long."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg

from eventport_conformance.waiting import no_hang


_SQL = """
CREATE FUNCTION "{schema}".pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    -- Not by waiting for a lock, which would end with lock_timeout.
    WHILE NOT pg_try_advisory_lock_shared(hashtextextended('{schema}', 1)) LOOP
        PERFORM pg_sleep(0.005);
    END LOOP;
    PERFORM pg_advisory_unlock_shared(hashtextextended('{schema}', 1));
    RETURN NEW;
END
$function$;
CREATE TRIGGER gate BEFORE INSERT ON "{schema}".events FOR EACH ROW WHEN (NEW.type = 'Gated')
    EXECUTE FUNCTION "{schema}".pass_the_gate();
"""


async def build_gate(admin: asyncpg.Connection, schema: str) -> None:
    """Make a gate in a schema; it is open."""
    await admin.execute(_SQL.replace("{schema}", schema))


@asynccontextmanager
async def closed_gate(admin: asyncpg.Connection, schema: str) -> AsyncGenerator[None, None]:
    """Keep it closed."""
    await admin.execute("SELECT pg_advisory_lock(hashtextextended($1, 1))", schema)
    try:
        yield
    finally:
        await admin.execute("SELECT pg_advisory_unlock(hashtextextended($1, 1))", schema)


async def wait_until(admin: asyncpg.Connection, sql: str, *args: object) -> None:
    """Wait until a query gives something that is true."""
    async with no_hang():
        while not await admin.fetchval(sql, *args):  # noqa: ASYNC110  # the server announces nothing
            await asyncio.sleep(0.005)


async def somebody_at_the_gate(admin: asyncpg.Connection) -> None:
    """Wait until an append has come to the gate."""
    await wait_until(
        admin,
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> $1",
        admin.get_server_pid(),
    )
