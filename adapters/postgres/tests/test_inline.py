"""Proves that inline handlers and their commits share one fate on PostgreSQL, whatever happens."""

from __future__ import annotations

import asyncio

from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.read_model import Check, Connection, Events, Model, Writing, events

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    InvalidArgumentTypeError,
    NewEvent,
    NotSupportedError,
    StoreUnavailableError,
)

from eventport_postgres import PostgresEventStore


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


async def test_what_a_handler_must_be(store: PostgresEventStore) -> None:
    bad: Any = "handler"
    with pytest.raises(InvalidArgumentTypeError, match="must be a function"):
        store.inline(bad)
    plain: Any = lambda *_: None  # noqa: E731  # not asynchronous
    store.inline(plain)
    with pytest.raises(InlineProjectionError, match="TypeError"):
        await store.append("a", events(1))
    assert not (await store.read("a")).exists
