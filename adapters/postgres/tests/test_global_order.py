"""Proves the global order: nothing appears late, nothing is out of order, nobody waits in vain."""

from __future__ import annotations

import asyncpg

from eventport import NewEvent

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore


def new(data: object) -> list[NewEvent]:
    return [NewEvent("E", data)]


async def seen(store: PostgresEventStore, after: int = 0) -> list[tuple[str, int]]:
    return [(e.stream, e.version) for e in (await store.read_all(after=after)).events]


async def test_an_older_transaction_that_appends_later_comes_later(
    url: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await store.append("s", new(1))
    async with admin.transaction():
        # It takes its place in every respect: a transaction id, a snapshot, a lock.
        await store.using(admin).append("other", new("A"))
        await store.append("s", new("B"))
        assert await seen(store) == [("s", 1)]
        await store.using(admin).append("s", new("A"))
    assert await seen(store) == [("s", 1), ("other", 1), ("s", 2), ("s", 3)]


async def test_readers_stop_before_an_open_append_and_see_all_after_its_commit(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with (
        await PostgresEventStore.connect(url, schema=schema) as reader,
        reader.subscribe() as subscription,
    ):
        await store.append("before", new(0))
        transaction = admin.transaction()
        await transaction.start()
        await store.using(admin).append("a", [*new(1), *new(2)])
        later = await store.append("b", new(3))
        result = await reader.read_all()
        assert [event.stream for event in result.events] == ["before"]
        assert result.position < (later.position or 0) - 1
        with no_hang():
            assert (await anext(subscription)).stream == "before"
        assert await seen(reader, result.position) == []
        await transaction.commit()
        assert await seen(reader, result.position) == [("a", 1), ("a", 2), ("b", 1)]
        with no_hang():
            assert [(await anext(subscription)).stream for _ in range(3)] == ["a", "a", "b"]


async def test_positions_of_an_append_that_was_rolled_back_hold_nobody_back(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    transaction = admin.transaction()
    await transaction.start()
    await store.using(admin).append("a", new(1))
    await store.append("b", new(2))
    await transaction.rollback()
    assert await seen(store) == [("b", 1)]


async def test_an_unrelated_transaction_holds_nobody_back(
    store: PostgresEventStore, admin: asyncpg.Connection, schema: str
) -> None:
    async with admin.transaction():
        await admin.execute(f'CREATE TABLE "{schema}".unrelated (n int)')
        await admin.execute(f'INSERT INTO "{schema}".unrelated VALUES (1)')
        await store.append("a", new(1))
        assert await seen(store) == [("a", 1)]


async def test_the_very_first_append_of_a_store_is_waited_for(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with admin.transaction():
        await store.using(admin).append("a", new(1))
        await store.append("b", new(2))
        assert (await store.read_all()).position == 0
    assert await seen(store) == [("a", 1), ("b", 1)]


async def test_positions_beyond_32_bits_keep_the_order(
    store: PostgresEventStore, admin: asyncpg.Connection, schema: str
) -> None:
    for start in (2**31 - 2, 2**32 - 2, 2**40 + 2**31 - 2):
        await admin.execute(f"""SELECT setval('"{schema}".positions', {start})""")
        before = (await store.append("s", new(0))).position or 0
        async with admin.transaction():
            await store.using(admin).append(f"a-{start}", [*new(1), *new(1), *new(1)])
            await store.append(f"b-{start}", new(2))
            assert await seen(store, before) == []
        after = await seen(store, before)
        assert after == [*((f"a-{start}", v) for v in (1, 2, 3)), (f"b-{start}", 1)]


async def test_positions_that_a_crash_gives_out_again_are_not_missed(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    last = (await store.append("a", new(1))).position
    transaction = admin.transaction()
    await transaction.start()
    await store.using(admin).append("b", new(2))
    await transaction.rollback()
    async with store.subscribe() as subscription:
        with no_hang():
            assert (await anext(subscription)).stream == "a"
        position = (await store.read_all()).position
        filtered = (await store.read_all(types=["Other"])).position
        # The server forgets what no commit has made it write to its log.
        await admin.execute(f"""SELECT setval('"{schema}".positions', {last})""")
        await store.append("c", new(3))
        assert await seen(store, position) == [("c", 1)]
        assert await seen(store, filtered) == [("c", 1)]
        with no_hang():
            assert (await anext(subscription)).stream == "c"


async def test_two_schemas_neither_see_nor_hold_up_each_other(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with await PostgresEventStore.connect(url, schema=f"{schema}_b") as other:
        async with admin.transaction():
            await store.using(admin).append("s", new("open"))
            with no_hang():
                assert (await other.append("s", new("mine"))).version == 1
            assert await seen(other) == [("s", 1)]
        assert await seen(store) == [("s", 1)]
        assert (await store.read("s")).events[0].data == "open"
    await admin.execute(f'DROP SCHEMA "{schema}_b" CASCADE')
