"""Proves that cancelled calls end soon and spoil nothing for others."""

from __future__ import annotations

import asyncio
import random

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.gate import build_gate, closed_gate, somebody_at_the_gate

from eventport import NewEvent

from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_postgres import PostgresEventStore


CALLS = 300


async def follow(store: PostgresEventStore) -> None:
    """Follow a store until somebody has enough of it."""
    async with store.subscribe() as subscription:
        async for _ in subscription:
            pass


async def append_in_session(store: PostgresEventStore) -> None:
    """Append by a session."""
    async with store.session() as session:
        await session.read("s", max_count=1)
        await session.append("t", [NewEvent("E", 1)])


def calls(store: PostgresEventStore) -> list[Callable[[], Awaitable[Any]]]:
    """Return calls of all kinds."""
    return [
        lambda: store.read("s"),
        lambda: store.read("s", max_count=1, backwards=True),
        lambda: store.read_all(max_count=700),
        lambda: store.append("t", [NewEvent("E", 1)]),
        lambda: append_in_session(store),
        lambda: follow(store),
    ]


async def storm(store: PostgresEventStore, rng: random.Random) -> None:
    """Cancel many calls one right after the other; in between, one that nobody cancels works."""
    for number in range(CALLS):
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(rng.choice((1, 2, 3))):
            task = asyncio.ensure_future(rng.choice(calls(store))())
            tasks.append(task)
            for _ in range(rng.choice((1, 1, 2, 3, 5))):
                await asyncio.sleep(0)
            if rng.random() < 0.4:
                await asyncio.sleep(rng.uniform(0, 0.004))
            task.cancel()
            if rng.random() < 0.7:
                await asyncio.wait([task])
        await asyncio.wait(tasks)
        if number % 5 == 4:
            assert (await store.read("s", max_count=1, backwards=True)).version == 500
            await store.append("u", [NewEvent("E", number)])


@pytest.mark.parametrize("pool_size", [1, 4])
async def test_a_storm_of_cancelled_calls_leaves_a_store_that_works(
    url: str, schema: str, admin: asyncpg.Connection, pool_size: int
) -> None:
    async with (
        no_hang(seconds=5 * HANG_SECONDS),
        await PostgresEventStore.connect(url, schema=schema, pool_size=pool_size) as store,
    ):
        await store.append("s", [NewEvent("E", "x" * 2000) for _ in range(500)])
        await storm(store, random.Random(pool_size))
        await store.aclose()
    found = await admin.fetchval(f"SELECT count(*) FROM \"{schema}\".events WHERE stream = 'u'")
    assert found == CALLS // 5


async def test_a_pool_of_the_caller_gets_no_cancellation_of_ours(
    url: str, schema: str, admin: asyncpg.Connection
) -> None:
    async with (
        no_hang(seconds=5 * HANG_SECONDS),
        asyncpg.create_pool(url, min_size=2, max_size=3) as pool,
    ):
        async with await PostgresEventStore.on_pool(pool, schema=schema) as store:
            await store.append("s", [NewEvent("E", "x" * 2000) for _ in range(500)])
            storming = asyncio.create_task(storm(store, random.Random(5)))
            while not storming.done():
                assert await pool.fetchval("SELECT 1", timeout=HANG_SECONDS) == 1
                await asyncio.sleep(0.001)
            storming.result()
        assert pool.get_idle_size() == pool.get_size()


async def test_a_cancelled_append_to_a_locked_stream_ends_and_leaves_nothing(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with admin.transaction():
        parking = store._parking
        assert parking is not None
        await store.using(admin).append("s", [NewEvent("E", "first")])
        for event in (NewEvent("E", "given up"), NewEvent("E", "given up, too")):
            appending = asyncio.create_task(store.append("s", [event]))
            while not parking.parked["s"]:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.005)
            appending.cancel()
            # Nothing on the server ends before this; only the lock would.
            done, _ = await asyncio.wait([appending], timeout=HANG_SECONDS)
            assert done
            assert appending.cancelled()
            assert not parking.parked["s"]
        await store.append("t", [NewEvent("E", "others go on")])
    await store.append("s", [NewEvent("E", "last")])
    assert [event.data for event in (await store.read("s")).events] == ["first", "last"]


async def test_an_append_that_is_alone_on_the_wire_is_taken_back(
    schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await build_gate(admin, schema)
    await store.append("s", [NewEvent("E", "first")])
    async with closed_gate(admin, schema):
        appending = asyncio.create_task(store.append("s", [NewEvent("Gated", "given up")]))
        await somebody_at_the_gate(admin)
        appending.cancel()
        done, _ = await asyncio.wait([appending], timeout=HANG_SECONDS)
        assert done
        assert appending.cancelled()
    await store.append("s", [NewEvent("E", "last")])
    assert [event.data for event in (await store.read("s")).events] == ["first", "last"]


async def test_an_append_that_is_queued_is_dropped_at_once(
    schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await build_gate(admin, schema)
    async with closed_gate(admin, schema):
        alone = asyncio.create_task(store.append("s", [NewEvent("Gated", 1)]))
        await somebody_at_the_gate(admin)
        queued = asyncio.create_task(store.append("q", [NewEvent("E", "queued")]))
        await asyncio.sleep(0.05)
        queued.cancel()
        await asyncio.wait([queued], timeout=HANG_SECONDS)
        assert queued.cancelled()
    assert (await alone).version == 1
    assert not (await store.read("q")).exists


async def test_an_append_that_shares_a_batch_waits_for_it(
    schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await build_gate(admin, schema)
    async with closed_gate(admin, schema):
        alone, first, second = (
            asyncio.create_task(store.append(name, [NewEvent("Gated", name)]))
            for name in ("alone", "s-0", "s-1")
        )
        await somebody_at_the_gate(admin)
        alone.cancel()
        await asyncio.wait([alone], timeout=60)
        await somebody_at_the_gate(admin)
        first.cancel()
        await asyncio.sleep(0.2)
        assert not first.done()  # or else the other one would be cut off
    await asyncio.wait([first, second], timeout=HANG_SECONDS)
    assert first.cancelled()
    assert second.result().version == 1
    assert (await store.read("s-0")).version == 1
