"""Proves that every wait on a server ends, also when its connections fall silent."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.server import Server, bare_connection, url_through

from eventport import EventportError, EventStore, NewEvent, StoreClosedError, StoreUnavailableError

from eventport_conformance.dropping import in_the_end
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_postgres import PostgresEventStore, connections
from eventport_postgres.projections import PostgresCheckpoints


TIMEOUT = 3.0


async def ended(work: Awaitable[Any]) -> BaseException | None:
    """Wait for the end of a call, and return what it raised."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=HANG_SECONDS)
    assert done, "it does not end"
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def follow(store: PostgresEventStore, seen: list[Any]) -> None:
    """Follow a store until it is closed."""
    with suppress(StoreClosedError):
        async with store.subscribe() as subscription:
            async for event in subscription:
                seen.append(event.data)  # noqa: PERF401  # as it comes


async def listening(store: PostgresEventStore) -> None:
    """Wait until the store listens, too."""
    first = NewEvent("E", 0)
    # On a busy machine, the timeout may pass although the server answers.
    await in_the_end("append", lambda: store.append("s", [first], expected=0))
    await in_the_end("read", lambda: store.read("s"))
    await in_the_end("read_all", store.read_all)
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
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=TIMEOUT
    ) as store:
        await listening(store)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: store.read("s"),
            store.read_all,
            lambda: store.append("s", [NewEvent("E", 1)]),
        ]
        for call in calls:
            line.silence(new=False)
            error = await ended(call())
            assert error is None or isinstance(error, EventportError)
        line.silence(new=False)
        assert await ended(store.aclose()) is None


async def test_closing_ends_within_the_timeout_of_the_store(
    line: Proxy, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 10 * HANG_SECONDS)
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=TIMEOUT
    ) as store:
        await listening(store)
        line.silence(new=False)
        await ended(store.read("s"))  # what it was cancelled on is ended in the background
        line.silence(new=False)
        assert await ended(store.aclose()) is None


async def test_a_subscription_goes_on_with_other_connections(line: Proxy, schema: str) -> None:
    seen: list[Any] = []
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=TIMEOUT
    ) as store:
        await listening(store)
        following = asyncio.create_task(follow(store, seen))
        for number in range(1, 4):
            line.silence(new=False)
            append = partial(store.append, "s", [NewEvent("E", number)], expected=number)
            await in_the_end("append", append)  # as above
            await until(lambda: bool(seen) and seen[-1] == number, "it is seen")  # noqa: B023  # at once
    await following
    assert seen == [0, 1, 2, 3]


async def test_a_pool_of_the_caller_gets_its_connections_back(
    line: Proxy, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Closing does not wait as long as giving a connection back may take.
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 10 * HANG_SECONDS)
    async with (
        no_hang(seconds=5 * HANG_SECONDS),
        asyncpg.create_pool(url_through(line), min_size=2, max_size=3) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema, timeout=TIMEOUT) as store,
    ):
        await listening(store)
        line.silence(new=False)
        await in_the_end("append", lambda: store.append("s", [NewEvent("E", 1)]))
        await in_the_end("read", lambda: store.read("s"))
        line.silence(new=False)
        assert await ended(store.aclose()) is None
        assert pool.get_idle_size() == pool.get_size()
        pool.terminate()


async def test_a_cancelled_call_on_a_silent_connection_ends(line: Proxy, schema: str) -> None:
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=60, pool_size=1
    ) as store:
        await listening(store)
        line.silence(new=False)
        reading = asyncio.create_task(store.read("s"))
        await asyncio.sleep(0.1)
        reading.cancel()
        await asyncio.wait([reading], timeout=HANG_SECONDS)
        assert reading.cancelled()
        assert await ended(store.read("s")) is None  # on another connection
        line.silence(new=False)
        assert await ended(store.aclose()) is None


async def test_a_pool_that_is_closed_before_its_store_is_let_go(url: str, schema: str) -> None:
    seen: list[Any] = []
    async with (
        no_hang(),
        asyncpg.create_pool(url, min_size=2, max_size=3) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        following = asyncio.create_task(follow(store, seen))
        await store.append("s", [NewEvent("E", 0)])
        await until(lambda: bool(seen), "the subscription has caught up")
        await until_it_listens(store)
        await pool.close()
        with pytest.raises(StoreUnavailableError, match=r"pool .* has been closed"):
            await store.read("s")
        with pytest.raises(StoreUnavailableError, match=r"pool .* has been closed"):
            await store.append("s", [NewEvent("E", 1)])
        await store.aclose()
        await following
    async with bare_connection(url) as admin:
        await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_closing_ends_although_nobody_answers_any_more(line: Proxy, schema: str) -> None:
    # asyncpg's issue 1326: what it sends to cancel a query has no limit of its own.
    async with await PostgresEventStore.connect(
        url_through(line), schema=schema, timeout=TIMEOUT
    ) as store:
        await listening(store)
        line.silence()
        reading = [asyncio.create_task(store.read("s")) for _ in range(4)]
        await asyncio.sleep(0.1)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading, timeout=HANG_SECONDS)
        # On a busy machine, the timeout may pass before they are cancelled.
        assert all(
            task.cancelled() or isinstance(task.exception(), StoreUnavailableError)
            for task in reading
        )
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
            connection = await asyncpg.connect(url_through(line))
            try:
                await connection.execute("BEGIN")
                line.silence(new=False)
                error = await ended(call(store.using(connection)))
                assert isinstance(error, StoreUnavailableError)
            finally:
                connection.terminate()  # what becomes of it is its owner's business


MOMENTS = ("begin", "hold", "commit", "rollback")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_transaction_of_a_projection_ends_on_a_silent_connection(
    line: Proxy, schema: str, moment: str
) -> None:
    async with PostgresCheckpoints.connect(
        url_through(line), schema=schema, timeout=1
    ) as checkpoints:
        tables = checkpoints._database

        async def work() -> None:
            if moment == "begin":
                line.silence(new=False)
            async with tables.transaction() as connection:
                if moment == "hold":
                    line.silence(new=False)
                await tables.fetch(connection, "SELECT 1")
                line.silence(new=False)
                if moment == "rollback":
                    raise ZeroDivisionError

        error = await ended(work())
        assert isinstance(error, StoreUnavailableError)
        assert await ended(tables.ask("SELECT 1")) is None  # on another connection


async def test_a_transaction_that_is_cancelled_on_a_silent_connection_ends(
    line: Proxy, schema: str
) -> None:
    async with PostgresCheckpoints.connect(
        url_through(line), schema=schema, timeout=1
    ) as checkpoints:
        inside = asyncio.Event()

        async def work() -> None:
            async with checkpoints._database.transaction():
                line.silence(new=False)
                inside.set()
                await asyncio.sleep(3600)

        working = asyncio.create_task(work())
        await inside.wait()
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([working], timeout=HANG_SECONDS)
        assert working.done()
        assert await ended(checkpoints._database.ask("SELECT 1")) is None


async def test_closing_ends_what_a_pool_would_not_get_back(
    server: Server, line: Proxy, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 10 * HANG_SECONDS)
    async with (
        no_hang(seconds=5 * HANG_SECONDS),
        asyncpg.create_pool(url_through(line), min_size=1, max_size=3) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema, timeout=HANG_SECONDS) as store,
        bare_connection(server.url) as admin,
    ):
        await append_in_the_end(store, 0)
        async with admin.transaction():
            await admin.execute(f'LOCK TABLE "{schema}".events IN ACCESS EXCLUSIVE MODE')
            reading = asyncio.create_task(store.read("s"))
            blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
            while not await admin.fetchval(blocked, f'"{schema}".events'):  # noqa: ASYNC110  # the server's
                await asyncio.sleep(0.01)
            line.silence(new=False)
            reading.cancel()
            assert isinstance(await ended(reading), asyncio.CancelledError)
        monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 0.5)  # from here on
        assert await ended(store.aclose()) is None
        assert pool.get_idle_size() == pool.get_size()
        pool.terminate()
