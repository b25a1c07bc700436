"""Proves that inline handlers and commits share one fate, however connections and calls end."""

from __future__ import annotations

import asyncio
import itertools
import random

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
from adapters.postgres.tests.server import Server, bare_connection, url_through

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    NewEvent,
    StoreUnavailableError,
)

from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


async def test_a_handler_that_does_not_end_is_given_up(
    url: str, schema: str, admin: Connection, store: PostgresEventStore, model: Model
) -> None:
    await model.create(admin)
    async with await PostgresEventStore.connect(url, schema=schema, timeout=3) as impatient:
        impatient.inline(model.project)

        @impatient.inline
        async def hang(events: Events, transaction: Writing) -> None:
            connection = transaction.connection
            if events[0].data:
                await connection.execute("SELECT pg_sleep($1)", events[0].data)

        async with no_hang():
            with pytest.raises(InlineProjectionError, match=r"hang failed.*not end in time"):
                await impatient.append("a", events(60))
            own = events(0)

            async def is_written() -> bool:
                with suppress(InlineProjectionError, StoreUnavailableError):  # it gives up soon
                    return (await impatient.append("a", own, expected=0)).version == 1
                return False

            await until(is_written, "the next append succeeds")
    assert await model.rows(admin) == await stored(store)


async def test_on_a_pool_a_lost_connection_is_no_failure(
    url: str, schema: str, admin: Connection, model: Model
) -> None:
    ended: list[object] = []
    async with (
        asyncpg.create_pool(url, min_size=2, max_size=4) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as pooled,
    ):
        await model.create(admin)
        pooled.inline(model.project)

        @pooled.inline
        async def end(_: Events, transaction: Writing) -> None:
            connection = transaction.connection
            if not ended:
                ended.append(connection.get_server_pid())
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        assert (await pooled.append("a", events(1))).version == 1
        assert await model.rows(admin) == await stored(pooled)


async def test_handlers_of_two_stores_that_wait_for_each_other_both_succeed(
    url: str, schema: str, store: PostgresEventStore, same: Check, admin: Connection, model: Model
) -> None:
    await admin.execute(f'CREATE TABLE "{schema}".hot (id int PRIMARY KEY, n int)')
    await admin.execute(f'INSERT INTO "{schema}".hot VALUES (1, 0), (2, 0)')
    met = asyncio.Barrier(2)
    calls: list[object] = []

    async def cross(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        first = events[0].data
        calls.append(first)
        await connection.execute("SET LOCAL deadlock_timeout = '20ms'")
        await connection.execute(f'UPDATE "{schema}".hot SET n = n + 1 WHERE id = $1', first)
        if len(calls) <= 2:
            await met.wait()
        await connection.execute(f'UPDATE "{schema}".hot SET n = n + 1 WHERE id = $1', 3 - first)

    async with (
        no_hang(),
        await PostgresEventStore.connect(url, schema=schema) as other,
    ):
        for one in (store, other):
            one.inline(cross)
        other.inline(model.project)
        await asyncio.gather(store.append("a", events(1)), other.append("b", events(2)))
    assert len(calls) == 3
    assert await admin.fetch(f'SELECT n FROM "{schema}".hot') == [(2,), (2,)]
    assert await same() == 2


async def test_cancelled_at_any_moment_both_are_there_or_neither(
    store: PostgresEventStore, same: Check
) -> None:
    cancelled = 0
    for turns in range(30):
        tasks = [asyncio.create_task(store.append("a", events(turns, turns))) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)
        cancelled += sum(task.cancelled() for task in tasks)
        await same()
    assert cancelled > 10


async def test_a_connection_that_is_lost_inside_a_handler_is_no_failure(
    store: PostgresEventStore, same: Check
) -> None:
    calls = 0

    @store.inline
    async def end(_: Events, transaction: Writing) -> None:
        connection = transaction.connection
        nonlocal calls
        calls += 1
        if calls == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert (await store.append("a", events(1, 2))).version == 2
    assert calls == 2
    assert await same() == 2


@pytest.mark.parametrize("lost", [b"BEGIN", b"stream-b", b"a handler", b"IMMEDIATE", b"COMMIT"])
async def test_an_answer_that_is_lost_doubles_nothing(
    server: Server, line: Proxy, schema: str, model: Model, lost: bytes
) -> None:
    async with (
        no_hang(),
        bare_connection(server.url) as admin,
        await PostgresEventStore.connect(url_through(line), schema=schema) as s,
    ):
        await model.create(admin)
        s.inline(model.project)

        @s.inline
        async def ask(_: Events, transaction: Writing) -> None:
            connection = transaction.connection
            await connection.execute("SELECT 'a handler'")

        await s.append("a", events(0))
        for number in range(1, 4):
            line.lose(lost, "answer")
            results = await asyncio.gather(
                s.append("a", events(number, number)),
                s.append("stream-b", events(number)),
                s.append("c", events(number), expected=0),
                return_exceptions=True,
            )
            assert line.losses_due == 0
            assert [getattr(result, "version", None) for result in results] == [
                2 * number + 1,
                number,
                1 if number == 1 else None,
            ]
            assert number == 1 or isinstance(results[2], ConcurrencyError)
        assert await model.rows(admin) == await stored(s)
    assert line.cuts == 3


async def test_a_failure_after_a_lost_answer_doubles_nothing(
    server: Server, line: Proxy, schema: str, model: Model
) -> None:
    async with (
        no_hang(),
        bare_connection(server.url) as admin,
        await PostgresEventStore.connect(url_through(line), schema=schema) as s,
        await PostgresEventStore.connect(server.url, schema=schema) as other,
        asyncio.TaskGroup() as tasks,
    ):
        await model.create(admin)
        s.inline(model.project)

        @s.inline
        async def refuse(events: Events, _: Writing) -> None:
            if events[0].stream == "b":
                raise LookupError
            # It waits for the batch, which holds the lock, and is quicker than its retry.
            tasks.create_task(other.append("b", [NewEvent("E", "other")]))

        line.lose(b"COMMIT", "answer")
        appended, refused = await asyncio.gather(
            s.append("a", events(1)),
            s.append("b", events(2), expected=1),  # a conflict at first
            return_exceptions=True,
        )
        assert getattr(appended, "version", None) == 1
        assert isinstance(refused, InlineProjectionError)
        assert [row[1] for row in await stored(s)] == ["a", "b"]
        assert await model.rows(admin) == (await stored(s))[:1]


async def test_connections_that_drop_at_random(
    server: Server, line: Proxy, schema: str, model: Model
) -> None:
    rng = random.Random(1)
    tasks, cuts = 12, 20
    appends = itertools.count(1)
    async with (
        no_hang(),
        bare_connection(server.url) as admin,
        await PostgresEventStore.connect(url_through(line), schema=schema) as s,
    ):
        await model.create(admin)
        s.inline(model.project)

        done = asyncio.Event()

        drops = 0

        async def disturb() -> None:
            nonlocal drops
            while True:
                await asyncio.sleep(rng.uniform(0.001, 0.08))
                line.drop(reset=True)
                drops += 1
                done.clear()
                await done.wait()  # on a slow machine, nothing would get through in between

        async def work(name: int) -> None:
            while drops < cuts:  # however fast the machine is
                number = next(appends)
                await s.append(f"s-{(name + number) % 5}", events(name, number))
                done.set()

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(work(name) for name in range(tasks)))
        disturbing.cancel()
        rows = await model.rows(admin)
        assert rows == await stored(s)
        assert len(rows) == 2 * (next(appends) - 1)
