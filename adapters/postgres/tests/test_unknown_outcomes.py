"""Proves that nothing but its own answer, or a sure finding, answers for an append."""

from __future__ import annotations

import asyncio
import re

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.gate import build_gate, closed_gate, somebody_at_the_gate, wait_until
from adapters.postgres.tests.server import Server, bare_connection, url_through

from eventport import NewEvent, StoreUnavailableError

from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


@pytest.fixture
async def admin(server: Server) -> AsyncGenerator[asyncpg.Connection, None]:
    async with bare_connection(server.url) as connection:
        yield connection


async def written(admin: asyncpg.Connection, schema: str) -> list[tuple[str, str]]:
    """Return what is there, as a bare driver sees it."""
    rows = await admin.fetch(
        f'SELECT stream, data::text FROM "{schema}".events ORDER BY stream, version'
    )
    return [tuple(row) for row in rows]


async def append_a_batch(store: PostgresEventStore) -> list[Any]:
    """Append so that three share a batch, whose request says ``marked``."""
    first = asyncio.create_task(store.append("first", [NewEvent("E", 0)]))
    rest = [
        asyncio.create_task(store.append("s", [NewEvent("E", f"marked {number}")]))
        for number in range(3)
    ]
    return await asyncio.gather(first, *rest, return_exceptions=True)


SERVED_BY = re.compile(rb"K\x00\x00\x00\x0c(.{4})", re.DOTALL)
"""The message in which a server says which of its processes serves a connection."""

BATCH = [("first", "0"), *(("s", f'"marked {number}"') for number in range(3))]


async def disturb_nothing(_: asyncpg.Connection) -> None:
    """Leave the look alone."""


async def cancel_the_search(admin: asyncpg.Connection) -> None:
    """Do as an administrator does who does not like a statement that waits."""
    await admin.execute(
        "SELECT pg_cancel_backend(l.pid) FROM pg_locks l WHERE NOT l.granted "
        "AND l.relation IS NOT NULL"
    )


@pytest.mark.parametrize("disturb", [disturb_nothing, cancel_the_search])
async def test_a_table_locked_during_the_search_doubles_nothing(
    server: Server,
    line: Proxy,
    schema: str,
    admin: asyncpg.Connection,
    disturb: Callable[[asyncpg.Connection], Awaitable[None]],
) -> None:
    async with (
        bare_connection(server.url) as locker,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
    ):
        transaction = locker.transaction()

        async def lock() -> None:
            await transaction.start()
            await locker.execute(f'LOCK TABLE "{schema}".events IN ACCESS EXCLUSIVE MODE')

        line.lose(b"marked", "answer", before=lock)
        appending = asyncio.create_task(append_a_batch(store))
        await wait_until(
            admin, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
        )
        await disturb(admin)
        await asyncio.sleep(0.3)  # longer than an append would wait for a lock
        await transaction.rollback()
        results = await appending
    assert not [result for result in results if isinstance(result, BaseException)]
    assert await written(admin, schema) == BATCH


async def test_a_login_refused_during_the_search_doubles_nothing(
    line: Proxy, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f'CREATE ROLE "{schema}" LOGIN SUPERUSER')
    url = url_through(line, schema)
    async with await PostgresEventStore.connect(url, schema=schema) as store:
        refused = asyncio.Event()

        async def refuse() -> None:
            await admin.execute(f'ALTER ROLE "{schema}" NOLOGIN')
            line.drop()
            refused.set()

        line.lose(b"marked", "answer", before=refuse)
        appending = asyncio.create_task(append_a_batch(store))
        await refused.wait()
        connections = line.connections
        await until(lambda: line.connections > connections, "the search tries to log in")
        await admin.execute(f'ALTER ROLE "{schema}" LOGIN')
        results = await appending
    assert not [result for result in results if isinstance(result, BaseException)]
    assert await written(admin, schema) == BATCH


async def test_a_login_that_stays_refused_leaves_it_unknown(
    line: Proxy, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f'CREATE ROLE "{schema}" LOGIN SUPERUSER')
    url = url_through(line, schema)
    async with await PostgresEventStore.connect(url, schema=schema, timeout=2) as store:

        async def refuse() -> None:
            await admin.execute(f'ALTER ROLE "{schema}" NOLOGIN')
            line.drop()

        line.lose(b"marked", "answer", before=refuse)
        with pytest.raises(StoreUnavailableError, match="whether the append was written"):
            await store.append("s", [NewEvent("E", "marked")])


@asynccontextmanager
async def store_on_its_own(
    line: Proxy, schema: str, _: asyncpg.Connection
) -> AsyncGenerator[PostgresEventStore, None]:
    async with await PostgresEventStore.connect(url_through(line), schema=schema) as store:
        yield store


def as_a_pooler_does(answer: bytes) -> bytes:
    """Name another process than the one that serves."""
    return SERVED_BY.sub(lambda _: b"K\x00\x00\x00\x0c\x00\x7f\x00\x01", answer)


@asynccontextmanager
async def store_behind_a_pooler_in_session_mode(
    line: Proxy, schema: str, _: asyncpg.Connection
) -> AsyncGenerator[PostgresEventStore, None]:
    line.edit_answer = as_a_pooler_does
    async with await PostgresEventStore.connect(url_through(line), schema=schema) as store:
        yield store


@asynccontextmanager
async def store_after_set_role(
    line: Proxy, schema: str, admin: asyncpg.Connection
) -> AsyncGenerator[PostgresEventStore, None]:
    await admin.execute(
        f'CREATE ROLE "{schema}"; CREATE ROLE "{schema}_login" LOGIN IN ROLE "{schema}"; '
        f'GRANT CREATE ON DATABASE postgres TO "{schema}"'
    )

    async def become(connection: Any) -> None:
        await connection.execute(f'SET ROLE "{schema}"')

    async with (
        asyncpg.create_pool(
            url_through(line, f"{schema}_login"), min_size=2, max_size=4, setup=become
        ) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        yield store


@asynccontextmanager
async def store_whose_server_is_set_back(
    line: Proxy, schema: str, admin: asyncpg.Connection
) -> AsyncGenerator[PostgresEventStore, None]:
    async with await PostgresEventStore.connect(url_through(line), schema=schema) as store:
        await admin.execute("SET allow_system_table_mods = on")
        try:
            await admin.execute(
                "ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp; "
                "CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                "AS $$ SELECT pg_catalog.true_clock_timestamp() - interval '60 s' $$"
            )
            yield store
        finally:
            await admin.execute(
                "DROP FUNCTION pg_catalog.clock_timestamp(); "
                "ALTER FUNCTION pg_catalog.true_clock_timestamp() RENAME TO clock_timestamp; "
                "RESET allow_system_table_mods"
            )


@pytest.mark.parametrize(
    "opened",
    [
        store_on_its_own,
        store_behind_a_pooler_in_session_mode,
        store_after_set_role,
        store_whose_server_is_set_back,
    ],
)
async def test_an_append_still_in_progress_is_not_written_twice(
    server: Server,
    line: Proxy,
    schema: str,
    admin: asyncpg.Connection,
    opened: Callable[[Proxy, str, asyncpg.Connection], Any],
) -> None:
    # The first try is at work on the server while its connection is dropped; it would write after
    # somebody had looked for its event.
    async with (
        no_hang(),
        bare_connection(server.url) as gatekeeper,
        opened(line, schema, admin) as store,
    ):
        await build_gate(gatekeeper, schema)
        async with closed_gate(gatekeeper, schema):
            appending = asyncio.create_task(store.append("s", [NewEvent("Gated", "once")]))
            await somebody_at_the_gate(gatekeeper)
            line.drop()
            await asyncio.sleep(0.5)  # it connects, and looks
        result = await appending
        assert (result.version, result.deduplicated) == (1, False)
        # If it has been written twice, the second one has been waiting for the first.
        await store.append("s", [NewEvent("E", "last")])
        assert await written(gatekeeper, schema) == [("s", '"once"'), ("s", '"last"')]


@asynccontextmanager
async def missing_standby(server: Server, admin: asyncpg.Connection) -> AsyncGenerator[None, None]:
    """Let commits wait for a standby that is not there."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'"
    probe = await asyncpg.connect(server.url)
    await admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await admin.execute("SELECT pg_reload_conf()")

    async def write() -> None:
        while True:
            await probe.execute("SELECT pg_logical_emit_message(true, 'probe', '')")

    probing = asyncio.create_task(write())
    try:
        await wait_until(admin, waits, probe.get_server_pid())
        yield
    finally:
        await admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await admin.execute("SELECT pg_reload_conf()")
        await wait_until(admin, waits.replace("count(*)", "count(*) = 0"), probe.get_server_pid())
        probing.cancel()
        await asyncio.wait([probing])
        probe.terminate()


END_THOSE_THAT_WAIT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE wait_event = 'SyncRep' AND query LIKE '%append%' AND pid <> pg_backend_pid()"
)


async def test_the_answer_for_what_no_standby_has_is_that_it_is_not_known(
    server: Server, schema: str, admin: asyncpg.Connection
) -> None:
    event = NewEvent("E", "not replicated")
    async with (
        await PostgresEventStore.connect(server.url, schema=schema) as other,
        await PostgresEventStore.connect(server.url, schema=schema, timeout=1.5) as store,
    ):
        await other.append("s", [NewEvent("E", "before")])
        async with missing_standby(server, admin):
            with pytest.raises(StoreUnavailableError, match="whether the append was written"):
                await store.append("s", [event], expected=1)
            # Others do not see yet what a failover may still undo.
            assert await written(admin, schema) == [("s", '"before"')]
            # Ending its backend makes it visible. It is no safer by that.
            await admin.execute(END_THOSE_THAT_WAIT)
            await wait_until(admin, f'SELECT count(*) = 2 FROM "{schema}".events')
            with pytest.raises(StoreUnavailableError):
                await store.append("s", [event], expected=1)
        result = await other.append("s", [event], expected=1)
        assert (result.version, result.deduplicated) == (2, True)


async def test_what_is_there_already_makes_a_joined_transaction_wait_for_a_standby(
    server: Server, schema: str, admin: asyncpg.Connection
) -> None:
    event = NewEvent("E", "not replicated")
    async with (
        await PostgresEventStore.connect(server.url, schema=schema) as store,
        bare_connection(server.url) as caller,
    ):
        await store.append("s", [event], expected=0)
        async with missing_standby(server, admin):
            transaction = caller.transaction()
            await transaction.start()
            result = await store.using(caller).append("s", [event], expected=0)
            assert result.deduplicated
            committing = asyncio.create_task(transaction.commit())
            await wait_until(
                admin,
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'",
                caller.get_server_pid(),
            )
        await committing


async def test_a_search_that_finds_what_no_standby_has_does_not_acknowledge(
    server: Server, line: Proxy, schema: str, admin: asyncpg.Connection
) -> None:
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=2
    ) as store:
        await store.append("s", [NewEvent("E", "before")])
        async with missing_standby(server, admin):
            appending = asyncio.create_task(store.append("s", [NewEvent("E", "marked")]))
            await wait_until(
                admin,
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event = 'SyncRep' AND query LIKE '%append%'",
            )
            await admin.execute(END_THOSE_THAT_WAIT)
            with pytest.raises(StoreUnavailableError, match="whether the append was written"):
                await appending
    assert await written(admin, schema) == [("s", '"before"'), ("s", '"marked"')]
