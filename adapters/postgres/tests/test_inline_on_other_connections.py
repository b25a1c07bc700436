"""Proves that inline handlers run in transactions, on pools and in stores of the caller."""

from __future__ import annotations

import asyncio

from contextlib import suppress

import asyncpg
import pytest

from adapters.postgres.tests.read_model import (
    Check,
    Connection,
    Events,
    Model,
    Writing,
    events,
    stored,
)

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    connect,
)

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore


async def test_readers_stop_before_a_commit_whose_handler_is_at_work(
    url: str, schema: str, admin: Connection, store: PostgresEventStore, model: Model
) -> None:
    await model.create(admin)
    store.inline(model.project)
    working, go_on = asyncio.Event(), asyncio.Event()

    @store.inline
    async def dawdle(events: Events, _: Writing) -> None:
        if events[0].stream == "slow":
            working.set()
            await go_on.wait()

    async with (
        no_hang(),
        await PostgresEventStore.connect(url, schema=schema) as other,
        asyncio.TaskGroup() as tasks,
    ):
        slow = tasks.create_task(store.append("slow", events(1)))
        await working.wait()
        later = await other.append("quick", events(2))
        assert (await other.read("quick")).version == 1
        assert not (await other.read_all()).events
        go_on.set()
        first = (await slow).position or 0
        assert first < (later.position or 0)
        assert [event.data for event in (await other.read_all()).events] == [1, 2]
    # The other store has no handlers, so its commits run none.
    assert await model.rows(admin) == [(first, "slow", 1)]


async def test_a_transaction_of_the_caller_takes_the_handlers_along(
    store: PostgresEventStore, admin: Connection, same: Check
) -> None:
    @store.inline
    async def refuse(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        assert connection is admin
        if events[0].data == "bad":
            await connection.execute("SELECT 1/0")

    with pytest.raises(KeyError):  # noqa: PT012  # the block is what is tested
        async with admin.transaction():
            await store.using(admin).append("a", events(1))
            raise KeyError
    assert await same() == 0
    async with admin.transaction():
        joined = store.using(admin)
        await joined.append("a", events(1))
        with pytest.raises(InlineProjectionError, match="DivisionByZeroError"):
            await joined.append("a", events("bad"))
        with pytest.raises(ConcurrencyError):
            await joined.append("a", events(2), expected=0)
        async with joined.session() as session:
            await session.append("a", events(2))
            await session.append("b", events(3))
    assert await same() == 3
    await admin.execute("BEGIN")  # by hand
    await store.using(admin).append("a", events(4))
    await admin.execute("COMMIT")
    assert await same() == 4


async def test_in_a_transaction_of_the_caller_swallowed_errors_are_errors(
    store: PostgresEventStore, admin: Connection, same: Check
) -> None:
    @store.inline
    async def swallow(_: Events, transaction: Writing) -> None:
        connection = transaction.connection
        with suppress(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1/0")

    async with admin.transaction():
        with pytest.raises(InlineProjectionError, match="cannot be committed"):
            await store.using(admin).append("a", events(1))
    assert await same() == 0


async def test_on_a_pool_and_through_connect(
    url: str, schema: str, store: PostgresEventStore, admin: Connection, model: Model
) -> None:
    await model.create(admin)
    async with (
        asyncpg.create_pool(url, min_size=2, max_size=4) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as pooled,
    ):
        pooled.inline(model.project)
        await asyncio.gather(*(pooled.append("a", events(1)) for _ in range(10)))
    async with connect(f"{url}&schema={schema}", inline=[model.project]) as connected:
        await connected.append("b", events(1))
    assert len(await stored(store)) == 11
    assert await model.rows(admin) == await stored(store)
