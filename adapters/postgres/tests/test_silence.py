"""Proves that every wait on a server ends, also when its connections fall silent."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from proxy import Proxy, proxy
from server import Server, running_server

from eventport import EventportError, EventStore, NewEvent, StoreClosedError, StoreUnavailableError

from eventport_conformance.waiting import until
from eventport_postgres import PostgresEventStore
from eventport_postgres.projections import PostgresCheckpoints


TIMEOUT = 3.0


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with running_server("fsync = off\n") as running:
        yield running


@pytest.fixture
async def line(server: Server) -> AsyncGenerator[Proxy, None]:
    async with proxy(server.socket) as found:
        yield found


async def ended(work: Awaitable[Any]) -> BaseException | None:
    """Wait for the end of a call, and return what it raised."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=60)
    assert done, "it does not end"
    return task.exception()


async def follow(store: PostgresEventStore, seen: list[Any]) -> None:
    """Follow a store until it is closed."""
    with suppress(StoreClosedError):
        async with store.subscribe() as subscription:
            async for event in subscription:
                seen.append(event.data)  # noqa: PERF401  # as it comes


async def listening(store: PostgresEventStore) -> None:
    """Wait until the store listens, too."""
    await store.append("s", [NewEvent("E", 0)])
    await store.read("s")
    await store.read_all()
    async with store.subscribe():
        await until_it_listens(store)


async def append_in_the_end(store: PostgresEventStore, number: int) -> None:
    """Append an event once, however long the machine takes to connect."""
    event = NewEvent("E", number)
    while True:
        with suppress(StoreUnavailableError):
            await store.append("s", [event], expected=number)
            return


async def until_it_listens(store: PostgresEventStore) -> None:
    """Wait until signs of other stores' commits arrive."""
    listener = store._listener
    assert listener is not None
    await until(lambda: listener.listening, "the store listens")


async def test_calls_and_closing_end(line: Proxy, schema: str) -> None:
    store = await PostgresEventStore.connect(line.url, schema=schema, timeout=TIMEOUT)
    await listening(store)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.read("s"),
        store.read_all,
        lambda: store.append("s", [NewEvent("E", 1)]),
    ]
    for call in calls:
        line.silence()
        error = await ended(call())
        assert error is None or isinstance(error, EventportError)
    line.silence()
    assert await ended(store.aclose()) is None


async def test_a_subscription_goes_on_with_other_connections(line: Proxy, schema: str) -> None:
    seen: list[Any] = []
    async with await PostgresEventStore.connect(line.url, schema=schema, timeout=TIMEOUT) as store:
        await listening(store)
        following = asyncio.create_task(follow(store, seen))
        async with asyncio.timeout(60):
            for number in range(1, 4):
                line.silence()
                await append_in_the_end(store, number)
                while number not in seen:  # noqa: ASYNC110  # nothing announces it
                    await asyncio.sleep(0.005)
    await following
    assert seen == [0, 1, 2, 3]


async def test_a_pool_of_the_caller_gets_its_connections_back(line: Proxy, schema: str) -> None:
    async with asyncio.timeout(120):
        async with (
            asyncpg.create_pool(line.url, min_size=2, max_size=3) as pool,
            await PostgresEventStore.on_pool(pool, schema=schema, timeout=TIMEOUT) as store,
        ):
            await listening(store)
            line.silence()
            for _ in range(10):  # each may find one of the silent ones
                try:
                    await store.append("s", [NewEvent("E", 1)])
                    await store.read("s")
                except StoreUnavailableError:
                    continue
                break
            else:
                pytest.fail("it does not recover")
            line.silence()
            assert await ended(store.aclose()) is None
            assert pool.get_idle_size() == pool.get_size()
            pool.terminate()


async def test_a_cancelled_call_on_a_silent_connection_ends(line: Proxy, schema: str) -> None:
    store = await PostgresEventStore.connect(line.url, schema=schema, timeout=60, pool_size=1)
    await listening(store)
    line.silence()
    reading = asyncio.create_task(store.read("s"))
    await asyncio.sleep(0.1)
    reading.cancel()
    await asyncio.wait([reading], timeout=60)
    assert reading.cancelled()
    assert await ended(store.read("s")) is None  # on another connection
    line.silence()
    assert await ended(store.aclose()) is None


async def test_a_pool_that_is_closed_before_its_store_is_let_go(url: str, schema: str) -> None:
    pool = await asyncpg.create_pool(url, min_size=2, max_size=3)
    store = await PostgresEventStore.on_pool(pool, schema=schema)
    seen: list[Any] = []
    following = asyncio.create_task(follow(store, seen))
    await store.append("s", [NewEvent("E", 0)])
    async with asyncio.timeout(60):
        await until(lambda: bool(seen), "the subscription has caught up")
        await until_it_listens(store)
        await pool.close()
        with pytest.raises(StoreUnavailableError, match=r"pool .* has been closed"):
            await store.read("s")
        with pytest.raises(StoreUnavailableError, match=r"pool .* has been closed"):
            await store.append("s", [NewEvent("E", 1)])
        await store.aclose()
        await following
    admin = await asyncpg.connect(url)
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
    await admin.close()


async def test_closing_ends_although_nobody_answers_any_more(line: Proxy, schema: str) -> None:
    # asyncpg's issue 1326: what it sends to cancel a query has no limit of its own.
    store = await PostgresEventStore.connect(line.url, schema=schema, timeout=TIMEOUT)
    await listening(store)
    line.silence()
    line.deaf = True
    reading = [asyncio.create_task(store.read("s")) for _ in range(4)]
    await asyncio.sleep(0.1)
    for task in reading:
        task.cancel()
    await asyncio.wait(reading, timeout=60)
    assert all(task.cancelled() for task in reading)
    assert isinstance(await ended(store.append("s", [NewEvent("E", 1)])), StoreUnavailableError)
    assert await ended(store.aclose()) is None


async def test_what_a_joined_store_does_on_a_silent_connection_ends(
    line: Proxy, url: str, schema: str
) -> None:
    calls: list[Callable[[EventStore], Awaitable[Any]]] = [
        lambda joined: joined.append("s", [NewEvent("E", 1)]),
        lambda joined: joined.read("s"),
        lambda joined: joined.read_all(),
    ]
    async with await PostgresEventStore.connect(url, schema=schema, timeout=1) as store:
        for call in calls:
            connection = await asyncpg.connect(line.url)
            await connection.execute("BEGIN")
            line.silence()
            error = await ended(call(store.using(connection)))
            assert isinstance(error, StoreUnavailableError)
            connection.terminate()  # what becomes of it is its owner's business


MOMENTS = ("begin", "hold", "commit", "rollback")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_transaction_of_a_projection_ends_on_a_silent_connection(
    line: Proxy, schema: str, moment: str
) -> None:
    async with PostgresCheckpoints.connect(line.url, schema=schema, timeout=1) as checkpoints:
        tables = checkpoints._database

        async def work() -> None:
            if moment == "begin":
                line.silence()
            async with tables.transaction() as connection:
                if moment == "hold":
                    line.silence()
                await tables.fetch(connection, "SELECT 1")
                line.silence()
                if moment == "rollback":
                    raise ZeroDivisionError

        error = await ended(work())
        assert isinstance(error, StoreUnavailableError)
        assert await ended(tables.ask("SELECT 1")) is None  # on another connection


async def test_a_transaction_that_is_cancelled_on_a_silent_connection_ends(
    line: Proxy, schema: str
) -> None:
    async with PostgresCheckpoints.connect(line.url, schema=schema, timeout=1) as checkpoints:
        inside = asyncio.Event()

        async def work() -> None:
            async with checkpoints._database.transaction():
                line.silence()
                inside.set()
                await asyncio.sleep(3600)

        working = asyncio.create_task(work())
        await inside.wait()
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([working], timeout=60)
        assert working.done()
        assert await ended(checkpoints._database.ask("SELECT 1")) is None
