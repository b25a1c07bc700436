"""Proves what is refused, and how: servers, schemas, options; and that names are only data."""

from __future__ import annotations

import asyncio

from collections.abc import Generator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from adapters.postgres.tests.server import Server, bare_connection, running_server
from anyio import to_thread

from eventport import (
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    NewEvent,
    NotSupportedError,
    PayloadTooLargeError,
    StoreUnavailableError,
    connect,
)

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore, PostgresSchema
from eventport_postgres.schema import SCHEMA_VERSION
from eventport_postgres.servers import check_version


DOCS = Path(__file__).parents[3] / "docs" / "postgres.md"
EVENT = [NewEvent("E", 1)]
_PARTS = [
    "'",
    '"',
    "''; DROP SCHEMA public; --",
    "%",
    "_",
    "a%",
    "a_",
    "\\",
    "\\'",
    "$1",
    "{}",
    "a",
]
HOSTILE = [f"x{text}" for text in _PARTS]


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with running_server("fsync = off\n") as running:
        yield running


async def test_names_types_and_prefixes_are_only_data(store: PostgresEventStore) -> None:
    for name in HOSTILE:
        event = NewEvent(name, {name: name}, {name: name})
        assert (await store.append(name, [event])).version == 1
        (seen,) = (await store.read(name)).events
        assert (seen.stream, seen.type, seen.data, seen.metadata) == (
            name,
            name,
            {name: name},
            {name: name},
        )
    for name in HOSTILE:
        found = (await store.read_all(types=[name])).events
        assert [event.type for event in found] == [name]
        found = (await store.read_all(prefix=name)).events
        assert [e.stream for e in found] == [n for n in HOSTILE if n.startswith(name)]


@pytest.mark.parametrize(
    "name", ['"; DROP SCHEMA public; --', "o'clock", "Größe %s {schema}", "a.b"]
)
async def test_a_schema_may_have_any_name(url: str, name: str) -> None:
    async with bare_connection(url) as admin:
        try:
            async with await PostgresEventStore.connect(url, schema=name) as store:
                await store.append("s", EVENT)
                assert (await store.read_all()).events[0].stream == "s"
            found = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"
            assert await admin.fetchval(found, name)
        finally:
            quoted = name.replace('"', '""')
            await admin.execute(f'DROP SCHEMA IF EXISTS "{quoted}" CASCADE')


@pytest.mark.parametrize(
    "options",
    [
        {"schema": ""},
        {"schema": "pg_mine"},
        {"schema": "x" * 64},
        {"schema": "a$b"},
        {"migrate": "never"},
        {"pool_size": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
    ],
)
async def test_bad_options(url: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        await PostgresEventStore.connect(url, **options)  # type: ignore[arg-type]


async def test_an_explicit_schema_has_to_be_there(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    with pytest.raises(IncompatibleStoreError, match="eventport schema upgrade"):
        await PostgresEventStore.connect(url, schema=schema, migrate="explicit")
    assert await PostgresSchema.upgrade(url, schema=schema) == (0, SCHEMA_VERSION)
    assert await PostgresSchema.upgrade(url, schema=schema) == (SCHEMA_VERSION, SCHEMA_VERSION)
    async with await PostgresEventStore.connect(url, schema=schema, migrate="explicit") as store:
        await store.append("s", EVENT)


async def test_the_sql_can_be_run_by_hand(url: str, schema: str, admin: asyncpg.Connection) -> None:
    await admin.execute(PostgresSchema.sql(schema=schema))
    async with await PostgresEventStore.connect(url, schema=schema, migrate="explicit") as store:
        await store.append("s", EVENT)


async def test_a_newer_schema_is_refused_and_left_alone(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f'INSERT INTO "{schema}".migrations VALUES (99)')
    for migrate in ("auto", "explicit"):
        with pytest.raises(IncompatibleStoreError, match="version 99"):
            await PostgresEventStore.connect(url, schema=schema, migrate=migrate)


async def test_a_foreign_schema_is_refused_and_left_alone(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".events (n int)')
    with pytest.raises(IncompatibleStoreError, match="something else"):
        await PostgresEventStore.connect(url, schema=schema)


async def test_a_role_without_the_right_to_create_tables(server: Server, schema: str) -> None:
    mine = server.url.replace("postgres:@", "app:@")
    page = await to_thread.run_sync(DOCS.read_text)
    grants = [line for line in page.splitlines() if line.startswith("GRANT ")]
    async with bare_connection(server.url) as admin:
        await admin.execute(
            """
            CREATE ROLE app LOGIN;
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            REVOKE ALL ON DATABASE postgres FROM PUBLIC;
            GRANT CONNECT ON DATABASE postgres TO app;
            ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
            ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC;
            """
        )
        with pytest.raises(ConfigurationError, match="permission denied"):
            await PostgresEventStore.connect(mine, schema=schema)
        await PostgresSchema.upgrade(server.url, schema=schema)
        for grant in grants:
            await admin.execute(grant.replace("orders", schema))
    for migrate in ("auto", "explicit"):
        async with await PostgresEventStore.connect(mine, schema=schema, migrate=migrate) as store:
            await store.append("s", EVENT)
            await store.append("t", [*EVENT, NewEvent("F", 2)])
            assert (await store.read("s")).events
            assert (await store.read("s", from_version=1, max_count=1)).events
            assert (await store.read_all()).events


async def test_servers_that_are_too_old() -> None:
    with pytest.raises(NotSupportedError, match="14 or newer"):
        check_version(13, 9)
    check_version(14, 0)


async def test_servers_that_only_pretend_to_lock(server: Server) -> None:
    async with bare_connection(server.url) as admin:
        await admin.execute("CREATE DATABASE pretender")
    url = server.url.replace("/postgres?", "/pretender?")
    async with bare_connection(url) as admin:
        await admin.execute(
            """
            SET allow_system_table_mods = on;
            CREATE OR REPLACE VIEW pg_catalog.pg_locks
            AS SELECT * FROM pg_lock_status() WHERE false;
            """
        )
    with pytest.raises(NotSupportedError, match="pretends"):
        await PostgresEventStore.connect(url)


async def test_databases_that_cannot_hold_all_text(server: Server) -> None:
    async with bare_connection(server.url) as admin:
        await admin.execute(
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    with pytest.raises(NotSupportedError, match="UTF8"):
        await PostgresEventStore.connect(server.url.replace("/postgres?", "/latin?"))


async def test_a_standby_is_refused_and_so_is_a_server_that_becomes_one(schema: str) -> None:
    with running_server("fsync = off\n") as server:
        async with await PostgresEventStore.connect(server.url, schema=schema, timeout=1) as store:
            await store.append("s", EVENT)
            await to_thread.run_sync(partial(server.stop, "fast"))
            (server.folder / "standby.signal").touch()
            await to_thread.run_sync(server.start)
            with pytest.raises(NotSupportedError, match="standby"):
                await PostgresEventStore.connect(server.url, schema=schema)
            # Once opened, it waits for a primary: a failover may show a standby for a moment.
            for call in (store.read_all(), store.read("s"), store.append("s", EVENT)):
                with pytest.raises(StoreUnavailableError, match="standby"):
                    await call
            await store.aclose()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgres://u:s3cret@127.0.0.1:1/db", StoreUnavailableError),
        ("postgres://u:s3cret@no.such.host.invalid/db", StoreUnavailableError),
        ("postgres://u:s3cret@127.0.0.1:port/db", ConfigurationError),
        ("postgres://u:s3cret@127.0.0.1:1/db?sslmode=maybe", ConfigurationError),
        ("postgres://u:s3cret@127.0.0.1:1/db?shcema=x", StoreUnavailableError),
    ],
)
async def test_errors_of_connecting_name_no_password(url: str, error: type[Exception]) -> None:
    with pytest.raises(EventportError) as caught:
        async with connect(url):
            raise AssertionError
    assert isinstance(caught.value, error)
    shown = caught.value.__suppress_context__ or caught.value.__cause__ is not None
    assert shown or caught.value.__context__ is None
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "s3cret" not in f"{chain!s} {chain!r}"
        chain = chain.__cause__


async def test_a_wrong_database_role_or_setting(url: str) -> None:
    mark = "&" if "?" in url else "?"
    for bad in (
        url.replace("/postgres", "/no_such_database", 1),
        f"{url}{mark}no_such_setting=1",
    ):
        with pytest.raises(ConfigurationError):
            await PostgresEventStore.connect(bad)


async def test_the_repr_has_no_password(url: str, schema: str, admin: asyncpg.Connection) -> None:
    secret = url.replace("postgres:@", "postgres:s3cret@")
    async with await PostgresEventStore.connect(secret, schema=schema) as store:
        assert "s3cret" not in repr(store)
        assert schema in repr(store)


async def test_an_append_beyond_what_the_protocol_takes(store: PostgresEventStore) -> None:
    half = b"x" * (129 * 1024 * 1024)
    with pytest.raises(PayloadTooLargeError):
        await store.append("s", [NewEvent("E", half), NewEvent("E", half)])
    assert (await store.append("s", EVENT)).version == 1


async def test_a_pool_of_the_caller_is_used_and_left_open(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        async with (
            await PostgresEventStore.on_pool(pool, schema=schema) as store,
            store.subscribe() as events,
        ):
            await store.append("s", EVENT)
            assert (await anext(events)).stream == "s"
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_pool_that_is_too_small(url: str, schema: str, admin: asyncpg.Connection) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        with pytest.raises(ConfigurationError, match=r"max_size=1; .* max_size=2 or more"):
            await PostgresEventStore.on_pool(pool, schema=schema)


async def test_the_smallest_pools_will_do(url: str, schema: str, admin: asyncpg.Connection) -> None:
    async def work(store: PostgresEventStore) -> None:
        async with store.subscribe() as events:
            await store.append("s", EVENT)
            assert (await anext(events)).stream == "s"
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(store.append(f"s-{number}", EVENT))
                    group.create_task(store.read(f"s-{number}"))
                    group.create_task(store.read_all())

    async with no_hang(), asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        async with await PostgresEventStore.on_pool(pool, schema=schema) as store:
            await work(store)
        async with await PostgresEventStore.connect(url, schema=schema, pool_size=1) as store:
            await work(store)


async def test_a_pooler_in_transaction_mode_is_said_to_be_there(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async with await PostgresEventStore.connect(
        url, schema=schema, transaction_pooling=True
    ) as store:
        assert {one.value for one in store.capabilities} == {
            "sessions",
            "global_order",
            "shared",
            "durable",
            "times",
            "guards",
            "conditions",
            "catalogue",
        }
        async with store.subscribe() as events:
            await store.append("s", EVENT)
            assert (await anext(events)).stream == "s"
