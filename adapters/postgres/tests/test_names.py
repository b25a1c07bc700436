"""Proves that no name in the SQL is looked up where the caller's search_path leads.

The kind of CVE-2018-1058: a role that may create functions or operators in a schema of the path
would run code with the rights of the application, or change its answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from eventport import NewEvent
from eventport.projections.checkpoints import DeadLetter, ProjectionId

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore, PostgresSchema
from eventport_postgres.projections import PostgresCheckpoints


EVENT = NewEvent("E", {"n": 1})
BYTES = NewEvent("F", b"")

# A copy of each function and operator that the server comes with, of those that SQL can write.
# Each of them fails.
_TRAPS = """
    DO $do$
    DECLARE
        one record;
    BEGIN
        CREATE SCHEMA {trap};
        FOR one IN
            SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
                   p.prorettype::regtype AS result, p.proretset
            FROM pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a')
                AND NOT p.proretset AND p.provariadic = 0 AND p.pronargdefaults = 0
                AND p.prorettype::regtype::text NOT IN ('internal', 'cstring', 'trigger',
                    'language_handler', 'fdw_handler', 'index_am_handler', 'table_am_handler',
                    'tsm_handler', 'event_trigger')
                AND NOT EXISTS (
                    SELECT FROM unnest(p.proargtypes) a
                    WHERE a::regtype::text IN ('internal', 'cstring', '"any"')
                        OR a::regtype::text LIKE 'any%'
                )
        LOOP
            BEGIN
                EXECUTE format(
                    'CREATE FUNCTION {trap}.%I(%s) RETURNS %s LANGUAGE plpgsql AS '
                    '$x$ BEGIN RAISE ''a trap: %s''; END $x$',
                    one.proname, one.arguments, one.result, one.proname
                );
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        FOR one IN
            SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r,
                   o.oprresult::regtype AS result, row_number() OVER () AS n
            FROM pg_operator o
            WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
                AND o.oprleft::regtype::text NOT LIKE 'any%'
        LOOP
            BEGIN
                EXECUTE format(
                    'CREATE FUNCTION {trap}.trap_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS '
                    '$x$ BEGIN RAISE ''a trap: %s''; END $x$',
                    one.n, one.l, one.r, one.result, replace(one.oprname, '%', '%%')
                );
                EXECUTE format(
                    'CREATE OPERATOR {trap}.%s '
                    '(LEFTARG = %s, RIGHTARG = %s, FUNCTION = {trap}.trap_%s)',
                    one.oprname, one.l, one.r, one.n
                );
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        CREATE DOMAIN {trap}.text AS pg_catalog.text CHECK (false);
        CREATE DOMAIN {trap}.uuid AS pg_catalog.uuid CHECK (false);
        CREATE DOMAIN {trap}.json AS pg_catalog.json CHECK (false);
        CREATE DOMAIN {trap}.bytea AS pg_catalog.bytea CHECK (false);
        CREATE DOMAIN {trap}.timestamptz AS pg_catalog.timestamptz CHECK (false);
        CREATE DOMAIN {trap}.name AS pg_catalog.name CHECK (false);
        CREATE DOMAIN {trap}.oid AS pg_catalog.oid CHECK (false);
        CREATE DOMAIN {trap}.regclass AS pg_catalog.regclass CHECK (false);
        CREATE DOMAIN {trap}.int4 AS pg_catalog.int4 CHECK (false);
        CREATE DOMAIN {trap}.int8 AS pg_catalog.int8 CHECK (false);
    END
    $do$;
    CREATE ROLE {trap} LOGIN SUPERUSER;
    ALTER ROLE {trap} SET search_path = {trap}, pg_catalog;
"""


@pytest.fixture
async def trapped(url: str, schema: str, admin: asyncpg.Connection) -> AsyncGenerator[str, None]:
    """The URL of a role that meets a trap wherever it names something without its schema."""
    trap = f"{schema}_trap"
    await admin.execute(_TRAPS.replace("{trap}", trap))
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    trapped = urlunsplit(parts._replace(netloc=f"{trap}@{host}"))
    yield trapped
    await admin.execute(
        f"DROP SCHEMA {trap} CASCADE; DROP SCHEMA IF EXISTS {schema} CASCADE; "
        f"DROP OWNED BY {trap}; DROP ROLE {trap}"
    )


async def use(store: PostgresEventStore) -> None:
    """Take every way through the functions and statements."""
    first = await store.append("p-1", [EVENT], expected=0)
    assert (await store.append("p-1", [EVENT], expected=0)).deduplicated
    await store.append("p-2", [BYTES, NewEvent("E", 2)], expected="no_stream")
    await store.append("p-2", [NewEvent("E", 3)], expected="stream_exists")
    async with store.session() as session:
        await session.append("p-1", [NewEvent("E", 2)])
        await session.append("p-3", [NewEvent("E", 1)])
    page = await store.read("p-1")
    assert [event.data for event in page.events] == [{"n": 1}, 2]
    age = datetime.now(UTC) - page.events[0].recorded_at
    assert abs(age.total_seconds()) < 300
    assert (await store.read("p-1", max_count=0)).version == 2
    assert [e.version for e in (await store.read("p-1", backwards=True)).events] == [2, 1]
    assert len((await store.read("p-2", from_version=2, max_count=5)).events) == 2
    assert len((await store.read_all(prefix="p-", types=["E"])).events) == 5
    rest = await store.read_all(after=first.position or 0)
    assert len(rest.events) == 5


async def learn_types(connection: asyncpg.Connection) -> None:
    """Let asyncpg ask for what it wants to know, which it does by names without a schema."""
    await connection.execute("SET search_path = pg_catalog")
    await connection.fetch(
        "SELECT $1::int4[], $2::int8[], $3::timestamptz[], $4::uuid[], $5::bytea[]", *[None] * 5
    )
    await connection.execute("RESET search_path")


async def no_reset(_: object) -> None:
    """Leave out what asyncpg asks when a connection goes back, again without a schema."""


@asynccontextmanager
async def trapped_pool(url: str) -> AsyncGenerator[asyncpg.Pool, None]:
    async with asyncpg.create_pool(
        url, min_size=1, max_size=4, init=learn_types, reset=no_reset
    ) as pool:
        with pytest.raises(asyncpg.RaiseError, match="a trap"):
            await pool.fetchval("SELECT clock_timestamp()")
        with pytest.raises(asyncpg.RaiseError, match="a trap"):
            await pool.fetchval("SELECT 1 + 1")
        yield pool


async def test_a_store_under_traps(trapped: str, schema: str) -> None:
    async with (
        trapped_pool(trapped) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        await use(store)
        async with store.subscribe() as subscription:
            with no_hang():
                for _ in range(6):
                    await anext(subscription)
        async with pool.acquire() as connection, connection.transaction():
            joined = store.using(connection)
            await joined.append("s", [EVENT])
            await joined.append("s", [NewEvent("E", 2), NewEvent("E", 3)])
            assert (await joined.read("s")).version == 3
            await joined.read_all()
    await PostgresSchema.upgrade(trapped, schema=schema)


async def test_checkpoints_under_traps(trapped: str, schema: str) -> None:
    projection = ProjectionId("orders", 1)
    async with trapped_pool(trapped) as pool:
        checkpoints = await PostgresCheckpoints.on_pool(pool, schema=schema)
        lease = await checkpoints.acquire(projection, "me", 60)
        assert lease is not None
        assert await checkpoints.acquire(projection, "you", 60) is None
        await lease.renew(3)
        letter = DeadLetter(4, "s", 1, "E", "no", 1, datetime.now(UTC))
        async with lease.advance(4, dead_letter=letter):
            pass
        assert (await checkpoints.load(projection)).position == 4
        await checkpoints.activate(projection)
        assert await checkpoints.active("orders") == 1
        assert len(await checkpoints.dead_letters(projection)) == 1
        async with checkpoints.resolve(projection, 4):
            pass
        await lease.release()


async def test_a_better_fitting_function_in_public_is_not_called(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(
        "CREATE FUNCTION public.hashtextextended(text, integer) RETURNS bigint "
        "LANGUAGE sql AS 'SELECT 1 / 0'"
    )
    try:
        await use(store)
    finally:
        await admin.execute("DROP FUNCTION public.hashtextextended(text, integer)")
