"""A fence waits a second for a transaction that has appended, and then lets all writers go on."""

from __future__ import annotations

import asyncpg
import pytest

from eventport import NewEvent, StoreFencedError, StoreUnavailableError
from eventport.fencing import fenced, set_fence

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore


async def test_a_transaction_that_has_appended_keeps_a_fence_away(url: str, schema: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            transaction = connection.transaction()
            await transaction.start()
            await store.using(connection).append("a", [NewEvent("E", 1)])
            with (
                no_hang("the fence gives up"),
                pytest.raises(StoreUnavailableError, match="did not end within 1 s, so the fence"),
            ):
                await set_fence(store, None, "closed")
            assert await fenced(store) is None
            with no_hang("others go on"):
                assert (await store.append("b", [NewEvent("E", 2)])).version == 1
            await transaction.commit()
            assert await set_fence(store, None, "closed")
            assert [event.data async for event in store.iterate_all()] == [1, 2]
    finally:
        await connection.close()


async def test_a_transaction_that_appends_behind_the_fence_is_refused(
    url: str, schema: str
) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            await store.append("a", [NewEvent("E", 1)])
            transaction = connection.transaction()
            await transaction.start()
            joined = store.using(connection)
            assert (await joined.read("a")).version == 1
            await set_fence(store, None, "it's \\ closed")
            with pytest.raises(StoreFencedError, match=r"^it's \\ closed$"):
                await joined.append("a", [NewEvent("E", 2)])
            await transaction.rollback()
    finally:
        await connection.close()


async def test_a_fence_outlives_a_new_name_of_its_schema(url: str, schema: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            await set_fence(store, None, "closed")
        await connection.execute(f'ALTER SCHEMA "{schema}" RENAME TO "{schema}_new"')
        async with await PostgresEventStore.connect(url, schema=f"{schema}_new") as store:
            assert await fenced(store) == "closed"
            with pytest.raises(StoreFencedError, match="closed"):
                await store.append("a", [NewEvent("E", 1)])
            assert await set_fence(store, "closed", None)
            await store.append("a", [NewEvent("E", 1)])
    finally:
        await connection.close()
