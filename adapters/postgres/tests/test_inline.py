"""Proves that inline handlers and their commits share one fate on PostgreSQL, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import random

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg
import pytest

from server import Server, bare_connection, url_through

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    InvalidArgumentTypeError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    StoreUnavailableError,
    connect,
)
from eventport.transactions import Transaction

from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


Connection: TypeAlias = "asyncpg.Connection[Any]"
Events: TypeAlias = Sequence[RecordedEvent]
Writing: TypeAlias = "Transaction[Connection]"
Check: TypeAlias = Callable[[], Awaitable[int]]


def events(*data: object) -> list[NewEvent]:
    return [NewEvent("E", value) for value in data]


class Model:
    """A read model: a row for each event; a second one for the same event is an error."""

    def __init__(self, schema: str) -> None:
        self.table = f'"{schema}".model'

    async def create(self, connection: Connection) -> None:
        await connection.execute(
            f"CREATE TABLE {self.table} (position bigint PRIMARY KEY, stream text, version bigint)"
        )

    async def project(self, events: Events, transaction: Writing) -> None:
        await transaction.connection.executemany(
            f"INSERT INTO {self.table} VALUES ($1, $2, $3)",
            [(event.position, event.stream, event.version) for event in events],
        )

    async def rows(self, connection: Connection) -> list[tuple[object, ...]]:
        return list(
            map(tuple, await connection.fetch(f"SELECT * FROM {self.table} ORDER BY position"))
        )


async def stored(store: PostgresEventStore) -> list[tuple[object, ...]]:
    """Give what the model must hold."""
    return [(event.position, event.stream, event.version) async for event in store.iterate_all()]


@pytest.fixture
def model(schema: str) -> Model:
    return Model(schema)


@pytest.fixture
async def same(
    store: PostgresEventStore, admin: Connection, model: Model
) -> AsyncGenerator[Check, None]:
    """Register the model, and compare what is in it with what is stored; also at the end."""
    await model.create(admin)
    store.inline(model.project)

    async def check() -> int:
        rows = await model.rows(admin)
        assert rows == await stored(store)
        return len(rows)

    yield check
    await check()


async def test_a_handler_gets_the_events_as_they_can_be_read_before_anybody_can(
    store: PostgresEventStore, admin: Connection, model: Model, same: Check
) -> None:
    seen: list[Events] = []

    @store.inline
    async def remember(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        assert len(await model.rows(connection)) == 2
        assert not await model.rows(admin)
        assert not (await store.read_all()).events
        assert not (await store.read("a")).exists
        seen.append(events)

    await store.append("a", [NewEvent("T", {"k": [1]}, {"m": 1}), NewEvent("U", b"bytes")])
    assert seen == [(await store.read_all()).events]
    assert await same() == 2


async def test_a_session_is_one_commit(store: PostgresEventStore) -> None:
    seen: list[list[object]] = []

    @store.inline
    async def remember(events: Events, _: Writing) -> None:
        seen.append([(e.stream, e.version, e.data) for e in events])
        assert [e.position for e in events] == sorted(e.position for e in events)

    async with store.session() as session:
        await session.append("a", events(1, 2))
        await session.append("b", events(3))
        await session.append("a", events(4))
        assert seen == []
    assert seen == [[("a", 1, 1), ("a", 2, 2), ("b", 1, 3), ("a", 3, 4)]]


async def test_where_nothing_is_written_no_handler_runs(store: PostgresEventStore) -> None:
    written = events(1)
    await store.append("a", written, expected=0)
    seen: list[object] = []

    @store.inline
    async def remember(events: Events, _: Writing) -> None:
        seen.append(events)

    assert (await store.append("a", written, expected=0)).deduplicated
    await store.append("a", [])
    with pytest.raises(ConcurrencyError):
        await store.append("a", events(2), expected=0)
    async with store.session() as session:
        await session.read("a")
    assert seen == []


async def test_a_handler_that_fails_undoes_its_own_commit_and_no_other(
    store: PostgresEventStore, same: Check
) -> None:
    @store.inline
    async def refuse(events: Events, _: Writing) -> None:
        if events[0].data % 10 == 0:
            raise LookupError("divisible")

    async def append(number: int) -> None:
        if number % 10:
            await store.append(f"s-{number % 5}", events(number, number))
            return
        with pytest.raises(InlineProjectionError, match=r"refuse failed.*: LookupError$") as caught:
            await store.append(f"s-{number % 5}", events(number, number))
        assert isinstance(caught.value.__cause__, LookupError)

    async with asyncio.TaskGroup() as tasks:
        for number in range(60):
            tasks.create_task(append(number))
    found = (await store.read_all()).events
    assert {event.data for event in found} == {number for number in range(60) if number % 10}
    assert await same() == 108


async def test_a_session_whose_handler_fails_writes_nothing(
    store: PostgresEventStore, same: Check
) -> None:
    @store.inline
    async def refuse(events: Events, _: Writing) -> None:
        raise asyncio.CancelledError  # of something that it waited for

    with pytest.raises(InlineProjectionError):  # noqa: PT012  # the block is what is tested
        async with store.session() as session:
            await session.append("a", events(1))
            await session.append("b", events(1))
    assert await same() == 0


async def test_an_error_that_a_handler_swallows_is_none_the_less_one(
    store: PostgresEventStore, same: Check
) -> None:
    @store.inline
    async def swallow(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        with suppress(asyncpg.DivisionByZeroError):
            if events[0].data == "inside":
                async with connection.transaction():
                    await connection.execute("SELECT 1/0")
            elif events[0].data == "outside":
                await connection.execute("SELECT 1/0")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.append("a", events("inside")))
        with pytest.raises(InlineProjectionError, match="cannot be committed"):
            await store.append("a", events("outside"))
        tasks.create_task(store.append("a", events("else")))
    assert await same() == 2


async def test_a_constraint_that_is_deferred_fails_the_commit_that_breaks_it(
    store: PostgresEventStore, admin: Connection, model: Model, same: Check
) -> None:
    await admin.execute(
        f"ALTER TABLE {model.table} ADD UNIQUE (stream) DEFERRABLE INITIALLY DEFERRED"
    )
    await store.append("a", events(1))
    with pytest.raises(InlineProjectionError, match=r"UniqueViolationError \(23505\).* constraint"):
        await store.append("a", events(2))
    await store.append("b", events(1))
    assert await same() == 2


@pytest.mark.parametrize(("sql", "count"), [("COMMIT", 2), ("ROLLBACK", 1)])
async def test_a_handler_that_ends_the_transaction_is_not_believed(
    store: PostgresEventStore, same: Check, sql: str, count: int
) -> None:
    @store.inline
    async def end(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        if events[0].data == 1:
            await connection.execute(sql)

    with pytest.raises(StoreUnavailableError, match="end ended the transaction"):
        await store.append("a", events(1))
    await store.append("a", events(2))
    assert await same() == count


async def test_an_append_by_a_handler_to_its_own_store_is_refused_with_the_remedy(
    store: PostgresEventStore, same: Check
) -> None:
    @store.inline
    async def react(events: Events, transaction: Writing) -> None:
        connection = transaction.connection
        if events[0].data == "wrong":
            await store.append("b", [NewEvent("E", "never")])
        elif events[0].data == "right":
            await store.using(connection).append("b", [NewEvent("E", "reaction")])

    with pytest.raises(
        InlineProjectionError, match=r"store\.using\(transaction\.connection\)"
    ) as caught:
        await store.append("a", events("wrong"))
    assert isinstance(caught.value.__cause__, NotSupportedError)
    await store.append("a", events("right"))
    assert await same() == 2


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


async def test_what_a_handler_must_be(store: PostgresEventStore) -> None:
    bad: Any = "handler"
    with pytest.raises(InvalidArgumentTypeError, match="must be a function"):
        store.inline(bad)
    plain: Any = lambda *_: None  # noqa: E731  # not asynchronous
    store.inline(plain)
    with pytest.raises(InlineProjectionError, match="TypeError"):
        await store.append("a", events(1))
    assert not (await store.read("a")).exists
