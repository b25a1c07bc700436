"""Proves what happens to a store that is renamed, restored in part, or replaced by another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg
import pytest

from eventport import ConcurrencyError, EventportError, IncompatibleStoreError, NewEvent
from eventport.adapter import AllQuery

from eventport_postgres import PostgresEventStore, PostgresSchema
from eventport_postgres.schema import SCHEMA_VERSION
from eventport_postgres.store import Migrate


def new(data: object = 1) -> list[NewEvent]:
    return [NewEvent("E", data)]


async def streams(store: PostgresEventStore) -> list[str]:
    return [event.stream for event in (await store.read_all()).events]


async def test_a_store_keeps_its_id(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    assert len(store.store_id) == 36
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert again.store_id == store.store_id
    async with await PostgresEventStore.connect(url, schema=f"{schema}_other") as other:
        assert other.store_id != store.store_id
    await admin.execute(f"DROP SCHEMA {schema}_other CASCADE")


async def test_a_renamed_schema_works_once_its_functions_know_its_name(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async with await PostgresEventStore.connect(url, schema=schema) as store:
        await store.append("s", new())
        identity = store.store_id
    await admin.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_b")
    try:
        with pytest.raises(IncompatibleStoreError, match="eventport schema upgrade"):
            await PostgresEventStore.connect(url, schema=f"{schema}_b", migrate="explicit")
        assert await PostgresSchema.upgrade(url, schema=f"{schema}_b") == (
            SCHEMA_VERSION,
            SCHEMA_VERSION,
        )
        async with await PostgresEventStore.connect(
            url, schema=f"{schema}_b", migrate="explicit"
        ) as store:
            assert store.store_id == identity
            await store.append("s", new(), expected=1)
            await store.append("t", [*new(2), *new(3)])
            assert await streams(store) == ["s", "s", "t", "t"]
        await admin.execute(f"ALTER SCHEMA {schema}_b RENAME TO {schema}")
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            await store.append("s", new(), expected=2)
    finally:
        await admin.execute(f"DROP SCHEMA IF EXISTS {schema}_b CASCADE")


async def test_a_running_store_does_not_write_into_another_one_of_its_name(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    for number in range(8):  # by now the server has plans for all statements
        await store.append(f"s-{number}", new())
        await store.append(f"s-{number}", [*new(), *new()])
        await store.read(f"s-{number}")
        await store.read(f"s-{number}", max_count=1)
        await store.read(f"s-{number}", max_count=0)
        await store.read_all()
    await admin.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_old")
    try:
        with pytest.raises(EventportError):
            await store.append("s-1", new())
        async with await PostgresEventStore.connect(url, schema=schema) as other:
            assert other.store_id != store.store_id
            for call in (
                store.append("s-1", new()),
                store.append("s-1", [*new(), *new()]),
                store.append("s-1", new(), expected=0),
                store.read("s-1"),
                store.read("s-1", max_count=1),
                store.read("s-1", max_count=0),
                store.read_all(),
            ):
                with pytest.raises(IncompatibleStoreError, match="another store"):
                    await call
            async with admin.transaction():
                with pytest.raises(IncompatibleStoreError, match="another store"):
                    await store.using(admin).append("s-1", new())
            assert await streams(other) == []
            await other.append("s-1", new())
    finally:
        await admin.execute(f"DROP SCHEMA IF EXISTS {schema}_old CASCADE")


@pytest.fixture
async def copy(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> AsyncGenerator[str, None]:
    """A schema with the events of another one, as a restore of the data alone leaves it."""
    name = f"{schema}_copy"
    for number in range(5):
        await store.append("s", new(number))
    await PostgresSchema.upgrade(url, schema=name)
    await admin.execute(f"INSERT INTO {name}.events SELECT * FROM {schema}.events")
    yield name
    await admin.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.mark.parametrize("migrate", ["auto", "explicit"])
async def test_a_sequence_behind_the_events_is_refused_and_repaired_on_request(
    url: str, copy: str, admin: asyncpg.Connection, migrate: Migrate
) -> None:
    with pytest.raises(IncompatibleStoreError, match=r"5.* at 0 .*`eventport schema upgrade`"):
        await PostgresEventStore.connect(url, schema=copy, migrate=migrate)
    await PostgresSchema.upgrade(url, schema=copy)
    async with await PostgresEventStore.connect(url, schema=copy, migrate=migrate) as store:
        assert await streams(store) == ["s"] * 5
        await store.append("s", new(), expected=5)
        with pytest.raises(ConcurrencyError):
            await store.append("s", new(), expected=5)
        assert [event.position for event in (await store.read_all()).events] == [1, 2, 3, 4, 5, 6]
    await PostgresSchema.upgrade(url, schema=copy)  # there is nothing to be repaired any more
    assert await admin.fetchval(f"SELECT last_value FROM {copy}.positions") == 6


async def test_a_sequence_that_is_ahead_is_left_as_it_is(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await store.append("s", new())
    await admin.execute(f"SELECT setval('{schema}.positions', 100, false)")
    await PostgresSchema.upgrade(url, schema=schema)
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert (await again.append("s", new())).position == 100


async def test_a_lost_identity_is_refused_and_repaired_on_request(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DELETE FROM {schema}.store")
    with pytest.raises(IncompatibleStoreError, match=r"identity.*`eventport schema upgrade`"):
        await PostgresEventStore.connect(url, schema=schema)
    await PostgresSchema.upgrade(url, schema=schema)
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert again.store_id != store.store_id


async def test_tables_without_their_version_are_refused(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DELETE FROM {schema}.migrations")
    with pytest.raises(IncompatibleStoreError, match=r"the table migrations .* is empty"):
        await PostgresEventStore.connect(url, schema=schema)


async def test_functions_that_are_missing_are_made_again(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DROP FUNCTION {schema}.read_all")
    with pytest.raises(IncompatibleStoreError, match="`eventport schema upgrade`"):
        await PostgresEventStore.connect(url, schema=schema, migrate="explicit")
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert await streams(again) == []


async def test_version_1_becomes_the_newest_without_a_change_to_its_events(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    made = (Path(__file__).parent / "schema_1.sql").read_text()
    await admin.execute(made.replace('"old"', schema))
    one = """
        ARRAY['s'], '{1}', '{1}', '{-1}', '{1}', ARRAY['s'], '{1}', '{1}', ARRAY['E'],
        ARRAY['{"n": 1}'], '{NULL}', ARRAY['{}'], ARRAY[gen_random_uuid()]
    """
    for _ in range(3):
        await admin.execute(f"SELECT {schema}.append({one})")
    before = await admin.fetch(f"SELECT ctid, * FROM {schema}.events")
    with pytest.raises(IncompatibleStoreError, match="has version 1, and 5 is needed"):
        await PostgresEventStore.connect(url, schema=schema, migrate="explicit")
    assert await PostgresSchema.upgrade(url, schema=schema) == (1, 5)
    # What an older program still calls, while it is being replaced, goes on working.
    await admin.execute(f"SELECT {schema}.append({one})")
    after = await admin.fetch(f"SELECT ctid, * FROM {schema}.events")
    # The rows were not even rewritten.
    assert [dict(row) for row in after[:3]] == [{**dict(row), "tags": None} for row in before]
    async with await PostgresEventStore.connect(url, schema=schema, migrate="explicit") as store:
        await store.append("s", new(), expected=4)
        assert await streams(store) == ["s"] * 5
    made_new = await functions(admin, schema)
    await PostgresSchema.upgrade(url, schema=f"{schema}_new")
    try:
        assert await functions(admin, f"{schema}_new") == made_new
    finally:
        await admin.execute(f"DROP SCHEMA {schema}_new CASCADE")


async def functions(admin: asyncpg.Connection, schema: str) -> list[tuple[str, str]]:
    rows = await admin.fetch(
        "SELECT p.proname, pg_get_functiondef(p.oid) AS text FROM pg_proc p "
        "WHERE p.pronamespace = $1::regnamespace ORDER BY p.proname",
        schema,
    )
    return [(row["proname"], row["text"].replace(schema, "")) for row in rows]


async def test_a_page_shows_that_a_position_was_never_taken(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    engine = store._postgres
    await store.append("s", [*new(), *new()])
    last = (await store.append("s", new())).position or 0
    assert (await engine.read_all(AllQuery(last + 1, 10))).head == last
    transaction = admin.transaction()
    await transaction.start()
    try:
        await store.using(admin).append("slow", new())
        later = (await store.append("s", new())).position or 0
        # It cannot be read yet, but it is there: nothing was replaced.
        for types in (None, frozenset({"E"})):
            page = await engine.read_all(AllQuery(later, 10, types))
            assert (page.events, page.position, page.head) == ([], later, later)
        page = await engine.read_all(AllQuery(last, 10))
        assert (page.events, page.position, page.head) == ([], last, last)
        assert (await engine.read_all(AllQuery(later + 1, 10))).head < later + 1
    finally:
        await transaction.rollback()
