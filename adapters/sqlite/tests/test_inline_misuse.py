"""No commit is harmed by what an inline handler of SQLite may not do, or leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from adapters.sqlite.tests.inlined import Writing, events, rows

from eventport import InlineProjectionError, InvalidArgumentTypeError, NewEvent, RecordedEvent

from eventport_conformance.waiting import no_hang
from eventport_sqlite import SQLiteEventStore


ENDS: dict[str, Callable[[aiosqlite.Connection], Awaitable[object]]] = {
    "commit": lambda db: db.commit(),
    "rollback": lambda db: db.rollback(),
    "executescript": lambda db: db.executescript("SELECT 1"),
    "COMMIT": lambda db: db.execute("COMMIT"),
    "ROLLBACK": lambda db: db.execute("ROLLBACK"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_handler_cannot_end_the_transaction(
    store: SQLiteEventStore, model: Callable[[], object], name: str
) -> None:
    await store.append("a", events(0))

    @store.inline
    async def end(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        if events[0].data == 1:
            await ENDS[name](transaction.connection)

    for _ in range(2):
        with pytest.raises(InlineProjectionError, match="may neither begin nor end"):
            await store.append("a", events(1, 2))
    await store.append("a", events(3))
    assert model() == await rows(store)
    assert (await store.read("a")).version == 2


@pytest.mark.parametrize("raises", [True, False])
async def test_a_transaction_that_sqlite_undoes_takes_one_commit_with_it(
    store: SQLiteEventStore, model: Callable[[], object], raises: bool
) -> None:
    @store.inline
    async def undo(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        if events[0].data == 1:
            try:
                await transaction.connection.execute(
                    "INSERT OR ROLLBACK INTO model SELECT * FROM model"
                )
            except sqlite3.IntegrityError:
                if raises:
                    raise

    async with asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(store.append("a", events(0))) for _ in range(5)]
        with pytest.raises(InlineProjectionError):
            await store.append("b", events(1))
        others += [tasks.create_task(store.append("a", events(0))) for _ in range(5)]
    assert max(other.result().version for other in others) == 10
    assert model() == await rows(store)


async def test_what_a_handler_sets_on_the_connection_does_not_last(
    store: SQLiteEventStore,
) -> None:
    @store.inline
    async def set_factories(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        transaction.connection.row_factory = sqlite3.Row
        transaction.connection.text_factory = bytes

    for version in (1, 2, 3):
        assert (await store.append("a", events(1))).version == version


@pytest.mark.parametrize("handler", [None, "handler"])
async def test_what_is_no_handler(store: SQLiteEventStore, handler: Any) -> None:
    with pytest.raises(InvalidArgumentTypeError, match="must be a function"):
        store.inline(handler)
    await store.append("a", events(1))


async def test_a_handler_that_is_not_asynchronous(store: SQLiteEventStore) -> None:
    plain: Any = lambda *_: None  # noqa: E731  # the point
    store.inline(plain)
    with pytest.raises(InlineProjectionError, match=r"async def handler\(events, transaction\)"):
        await store.append("a", events(1))
    assert not (await store.read("a")).exists


async def test_a_handler_cannot_close_the_connection(
    store: SQLiteEventStore, model: Callable[[], object]
) -> None:
    @store.inline
    async def close(_: Sequence[RecordedEvent], transaction: Writing) -> None:
        async with transaction.connection:
            pass

    for _ in range(2):
        with pytest.raises(InlineProjectionError, match="close failed"):
            await store.append("a", events(1))
    assert model() == await rows(store) == []


async def test_an_append_by_a_handler_to_its_own_store_is_refused_with_the_remedy(
    store: SQLiteEventStore, model: Callable[[], object]
) -> None:
    @store.inline
    async def react(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        if events[0].data == "wrong":
            await store.append("b", [NewEvent("E", "never")])
        elif events[0].data == "right":
            joined = store.using(transaction.connection)
            await joined.append("b", [NewEvent("E", "reaction")])
            with pytest.raises(sqlite3.DatabaseError):
                await transaction.connection.commit()  # refused after it, too

    with pytest.raises(InlineProjectionError, match="NotSupportedError") as caught:
        await store.append("a", events("wrong"))
    assert "store.using" in str(caught.value.__cause__)
    await store.append("a", events("right"))
    assert model() == await rows(store) == [(1, "a", 1), (2, "b", 1)]


async def test_a_handler_that_does_not_end_is_given_up(path: Path) -> None:
    async with await SQLiteEventStore.open(path, busy_timeout=0.1) as impatient:

        @impatient.inline
        async def hang(events: Sequence[RecordedEvent], _: Writing) -> None:
            if events[0].data == "hang":
                await asyncio.Event().wait()

        async with no_hang():
            with pytest.raises(InlineProjectionError, match=r"hang failed.*not end in time"):
                await impatient.append("a", events("hang"))
            await impatient.append("a", events(1))
