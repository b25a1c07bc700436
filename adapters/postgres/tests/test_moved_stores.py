"""Proves what happens to a store that is renamed, restored in part, or replaced by another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from eventport import ConcurrencyError, EventportError, IncompatibleStoreError, NewEvent

from eventport_postgres import PostgresEventStore, PostgresSchema
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
        assert await PostgresSchema.upgrade(url, schema=f"{schema}_b") == (2, 2)
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
    with pytest.raises(IncompatibleStoreError, match="5.* at 0 .*`eventport schema upgrade`"):
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
    with pytest.raises(IncompatibleStoreError, match="identity.*`eventport schema upgrade`"):
        await PostgresEventStore.connect(url, schema=schema)
    await PostgresSchema.upgrade(url, schema=schema)
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert again.store_id != store.store_id


async def test_tables_without_their_version_are_refused(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DELETE FROM {schema}.migrations")
    with pytest.raises(IncompatibleStoreError, match="the table migrations .* is empty"):
        await PostgresEventStore.connect(url, schema=schema)


async def test_functions_that_are_missing_are_made_again(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DROP FUNCTION {schema}.read_all")
    with pytest.raises(IncompatibleStoreError, match="`eventport schema upgrade`"):
        await PostgresEventStore.connect(url, schema=schema, migrate="explicit")
    async with await PostgresEventStore.connect(url, schema=schema) as again:
        assert await streams(again) == []
