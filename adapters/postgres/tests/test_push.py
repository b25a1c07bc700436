"""Proves that stores notify others of their commits while, and only while, others listen."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from eventport import NewEvent

from eventport_conformance.waiting import until
from eventport_postgres import PostgresEventStore
from eventport_postgres.engine import ListeningPostgresEngine
from eventport_postgres.push import Push


def push_of(store: PostgresEventStore) -> Push:
    assert isinstance(store.engine, ListeningPostgresEngine)
    return store.engine._push


def is_listening(store: PostgresEventStore) -> Callable[[], bool]:
    listener = store._listener
    assert listener is not None
    return lambda: listener.listening


async def test_nobody_is_notified_until_another_store_listens(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    push, heard = push_of(store), list[object]()
    await admin.add_listener(push._channel, lambda *_: heard.append(_))
    await store.append("s", [NewEvent("E", 1)])
    assert not await push._send()
    async with store.subscribe():  # a store needs no notification of its own commits
        await until(is_listening(store), "it listens")
        assert not await push._send()
        await admin.execute("SELECT 1")
        assert heard == []
        async with (
            await PostgresEventStore.connect(url, schema=schema) as other,
            other.subscribe(),
        ):
            await until(is_listening(other), "it listens")
            await store.append("s", [NewEvent("E", 2)])
            await until(lambda: bool(heard), "it was notified")
            assert await push._send()
        while await push._send():
            pass  # its connection ends soon
    await admin.remove_listener(push._channel, lambda *_: None)


async def test_a_pool_gets_its_connections_back_without_the_lock(
    url: str, schema: str, store: PostgresEventStore
) -> None:
    async with asyncpg.create_pool(url, min_size=2, max_size=2) as pool:
        async with (
            await PostgresEventStore.on_pool(pool, schema=schema) as other,
            other.subscribe(),
        ):
            await until(is_listening(other), "it listens")
            assert await push_of(store)._send()
        while await push_of(store)._send():
            pass  # what its closing has begun comes to its end
        assert pool.get_idle_size() == 2
