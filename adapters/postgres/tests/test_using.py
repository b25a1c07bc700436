"""Proves that a store inside the caller's transaction shares its fate, and says what it cannot."""

from __future__ import annotations

import asyncio
import json

from contextlib import suppress
from functools import partial

import asyncpg
import pytest

from anyio import Event, create_task_group, sleep

from eventport import (
    NO_STREAM,
    ConcurrencyError,
    EventStore,
    NewEvent,
    NotSupportedError,
    StoreUnavailableError,
)

from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


EVENT = [NewEvent("E", {"n": 1})]


@pytest.fixture
async def table(admin: asyncpg.Connection, schema: str, store: PostgresEventStore) -> str:
    name = f'"{schema}".orders'
    await admin.execute(f"CREATE TABLE {name} (id int)")
    return name


async def test_rows_and_events_are_committed_together(
    store: PostgresEventStore, admin: asyncpg.Connection, table: str
) -> None:
    async with admin.transaction():
        await admin.execute(f"INSERT INTO {table} VALUES (1)")
        joined: EventStore = store.using(admin)
        result = await joined.append("order-1", EVENT, expected=NO_STREAM)
        assert (result.version, result.created) == (1, True)
        assert (await joined.read("order-1")).events[0].data == {"n": 1}
        assert not (await store.read("order-1")).exists
    assert (await store.read("order-1")).version == 1
    assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 1


async def test_rows_and_events_are_rolled_back_together(
    store: PostgresEventStore, admin: asyncpg.Connection, table: str
) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what is tested
        async with admin.transaction():
            await admin.execute(f"INSERT INTO {table} VALUES (1)")
            async with store.using(admin).session() as session:
                await session.append("order-1", EVENT)
                await session.append("order-2", EVENT)
            raise ZeroDivisionError
    assert not (await store.read_all()).events
    assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert (await store.append("order-1", EVENT, expected=NO_STREAM)).version == 1


async def test_heads_are_those_that_the_transaction_sees(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await store.append("order-1", EVENT)
    async with admin.transaction():
        joined = store.using(admin)
        await joined.append("order-2", [NewEvent("E", {}), NewEvent("E", {})])
        assert await joined.heads(["order-2", "order-1", "a"]) == {
            "order-2": 2,
            "order-1": 1,
            "a": 0,
        }
        assert await store.heads(["order-2", "order-1"]) == {"order-2": 0, "order-1": 1}


async def test_a_conflict_leaves_the_transaction_usable(
    store: PostgresEventStore, admin: asyncpg.Connection, table: str
) -> None:
    await store.append("order-1", EVENT)
    async with admin.transaction():
        joined = store.using(admin)
        with pytest.raises(ConcurrencyError) as caught:
            await joined.append("order-1", [NewEvent("E", 2)], expected=NO_STREAM)
        assert caught.value.actual == 1
        await admin.execute(f"INSERT INTO {table} VALUES (1)")
        assert (await joined.append("order-1", [NewEvent("E", 2)], expected=1)).version == 2
        again = await joined.append("order-1", EVENT, expected=NO_STREAM)
        assert (again.version, again.deduplicated) == (1, True)
    assert (await store.read("order-1")).version == 2


async def test_others_wait_for_the_stream_but_not_for_other_streams(
    store: PostgresEventStore, admin: asyncpg.Connection, url: str, schema: str
) -> None:
    async with (
        await PostgresEventStore.connect(url, schema=schema) as other,
        create_task_group() as g,
        admin.transaction(),
    ):
        await store.using(admin).append("order-1", EVENT)

        async def rival() -> None:
            with pytest.raises(ConcurrencyError):
                await store.append("order-1", [NewEvent("E", 2)], expected=NO_STREAM)

        g.start_soon(rival)
        with no_hang():
            await other.append("order-2", EVENT)
    assert (await store.read("order-1")).version == 1


async def test_a_locked_stream_holds_up_no_append_to_others(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    versions: list[int] = []
    committed = Event()

    async def rival() -> None:
        versions.append((await store.append("order-1", [NewEvent("E", 2)])).version)

    async def session() -> None:
        async with store.session() as both:
            await both.append("order-3", EVENT)
            versions.append((await both.append("order-4", EVENT)).version)
        committed.set()

    with no_hang():
        async with create_task_group() as group, admin.transaction():
            await store.using(admin).append("order-1", EVENT)
            for _ in range(3):
                group.start_soon(rival)
            async with create_task_group() as others:
                for number in range(20):
                    others.start_soon(store.append, f"other-{number}", EVENT)
            assert versions == []
            group.start_soon(rival)
            group.start_soon(session)
            await store.append("order-2", EVENT)
            await committed.wait()
            assert versions == [1]
        assert sorted(versions) == [1, 2, 3, 4, 5]
        assert (await store.append("order-1", EVENT)).version == 6


async def test_a_pool_of_the_caller_may_have_a_lock_timeout(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    settings = {"lock_timeout": "20ms"}
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=4, server_settings=settings) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema, timeout=0.5) as pooled,
    ):
        with no_hang():
            async with admin.transaction():
                await store.using(admin).append("order-1", EVENT)
                with pytest.raises(StoreUnavailableError):
                    await pooled.append("order-1", EVENT)

            async def is_written() -> bool:
                with suppress(StoreUnavailableError):  # it gives up soon
                    return (await pooled.append("order-1", EVENT, expected=1)).version == 2
                return False

            await until(is_written, "the lock is free")


async def test_closing_waits_for_an_append_that_waits(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    versions: list[int] = []

    async def rival() -> None:
        versions.append((await store.append("order-1", [NewEvent("E", 2)])).version)

    with no_hang():
        async with create_task_group() as group, admin.transaction():
            await store.using(admin).append("order-1", EVENT)
            group.start_soon(rival)
            await sleep(0.02)
            group.start_soon(store.aclose)
            await sleep(0.2)
            assert versions == []
        assert versions == [2]


async def test_tasks_may_share_it(store: PostgresEventStore, admin: asyncpg.Connection) -> None:
    async with admin.transaction():
        joined = store.using(admin)
        async with create_task_group() as group:
            for number in range(10):
                group.start_soon(joined.append, f"s-{number % 3}", [NewEvent("E", number)])
    assert len((await store.read_all()).events) == 10


async def test_type_codecs_of_the_caller_do_not_matter(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await admin.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    async with admin.transaction():
        joined = store.using(admin)
        await joined.append("s", [NewEvent("E", {"a": [1.0, "é\0"]}), NewEvent("B", b"\0\xff")])
        seen = (await joined.read("s")).events
    assert [event.data for event in seen] == [{"a": [1.0, "é\0"]}, b"\0\xff"]


async def test_what_it_refuses(store: PostgresEventStore, admin: asyncpg.Connection) -> None:
    joined = store.using(admin)
    with pytest.raises(NotSupportedError, match="no transaction is open"):
        await joined.append("s", EVENT)

    async def hook(_: object) -> None:
        raise AssertionError

    with pytest.raises(NotSupportedError, match="only the owner of the transaction"):
        joined.after_commit(hook)
    with pytest.raises(NotSupportedError, match="subscription"):
        joined.subscribe()
    for isolation in ("repeatable_read", "serializable"):
        transaction = admin.transaction(isolation=isolation)
        await transaction.start()
        with pytest.raises(NotSupportedError, match="READ COMMITTED"):
            await joined.append("s", EVENT)
        await transaction.rollback()
    await admin.close()
    with pytest.raises(StoreUnavailableError):
        await joined.append("s", EVENT)
    assert not (await store.read("s")).exists


async def test_subscriptions_that_do_not_poll_notice_the_commit(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    def never(idle: int) -> float:
        return 3600.0

    async with no_hang(), await PostgresEventStore.connect(url, schema=schema) as other:
        for listening in (store, other):
            listening._feed.interval = never  # type: ignore[method-assign]  # or once an hour
        async with store.subscribe() as own, other.subscribe() as others:
            for one in (store, other):
                listener = one._listener
                assert listener is not None
                await until(partial(getattr, listener, "listening"), "it listens")
            following = [asyncio.create_task(anext(each)) for each in (own, others)]
            await until(lambda: own.caught_up.is_set() and others.caught_up.is_set(), "they wait")
            async with admin.transaction():
                await store.using(admin).append("s", [NewEvent("E", 1)])
            assert [(await each).data for each in following] == [1, 1]
