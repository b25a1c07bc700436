"""Proves that inline handlers and their commits share one fate on SQLite, whatever happens."""

from __future__ import annotations

import asyncio
import sqlite3

from collections.abc import Callable, Sequence
from pathlib import Path

import aiosqlite
import pytest

from adapters.sqlite.tests.inlined import Query, Writing, events, rows

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    connect,
)

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.chaos import seeded_random
from eventport_conformance.scripts import Start
from eventport_conformance.waiting import no_hang
from eventport_sqlite import SQLiteEventStore


KILLS = 10


async def test_a_handler_gets_the_events_as_they_can_be_read_before_anybody_can(
    store: SQLiteEventStore, query: Query
) -> None:
    seen: list[Sequence[RecordedEvent]] = []
    query("CREATE TABLE model (x)")

    @store.inline
    async def first(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        await transaction.connection.execute("INSERT INTO model VALUES (?)", (len(events),))
        assert query("SELECT * FROM eventport_events") == query("SELECT * FROM model") == []
        seen.append(events)

    @store.inline
    async def second(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        rows = await transaction.connection.execute_fetchall("SELECT x FROM model")
        assert list(map(tuple, rows)) == [(len(events),)]
        assert not (await store.read_all()).events
        seen.append(events)

    await store.append("a", [NewEvent("T", {"k": [1]}, {"m": 1}), NewEvent("U", b"bytes")])
    assert seen == [(await store.read_all()).events] * 2
    assert query("SELECT x FROM model") == [(2,)]


async def test_a_session_is_one_commit(store: SQLiteEventStore) -> None:
    seen: list[list[object]] = []

    @store.inline
    async def remember(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        seen.append([(e.stream, e.version, e.position, e.data) for e in events])

    async with store.session() as session:
        await session.append("a", events(1, 2))
        await session.append("b", events(3))
        await session.append("a", events(4))
        assert seen == []
    assert seen == [[("a", 1, 1, 1), ("a", 2, 2, 2), ("b", 1, 3, 3), ("a", 3, 4, 4)]]


async def test_where_nothing_is_written_no_handler_runs(store: SQLiteEventStore) -> None:
    written = events(1)
    await store.append("a", written, expected=0)
    seen: list[object] = []

    @store.inline
    async def remember(events: Sequence[RecordedEvent], _: Writing) -> None:
        seen.append(events)

    assert (await store.append("a", written, expected=0)).deduplicated
    await store.append("a", [])
    with pytest.raises(ConcurrencyError):
        await store.append("a", events(2), expected=0)
    async with store.session() as session:
        await session.read("a")
    assert seen == []


async def test_a_handler_that_fails_undoes_its_own_commit_and_no_other(
    store: SQLiteEventStore, model: Callable[[], object]
) -> None:
    @store.inline
    async def refuse(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        if events[0].data % 3 == 0:
            raise LookupError("divisible")

    async def append(number: int) -> None:
        if number % 3:
            await store.append(f"s-{number % 5}", events(number, number))
            return
        with pytest.raises(InlineProjectionError, match=r"refuse failed.*: LookupError$") as caught:
            await store.append(f"s-{number % 5}", events(number, number))
        assert isinstance(caught.value.__cause__, LookupError)

    async with asyncio.TaskGroup() as tasks:
        for number in range(30):
            tasks.create_task(append(number))
    found = (await store.read_all()).events
    assert {event.data for event in found} == {number for number in range(30) if number % 3}
    assert model() == await rows(store) != []


async def test_a_session_whose_handler_fails_writes_nothing(
    store: SQLiteEventStore, model: Callable[[], object]
) -> None:
    @store.inline
    async def refuse(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        raise LookupError

    with pytest.raises(InlineProjectionError):  # noqa: PT012  # the block is what is tested
        async with store.session() as session:
            await session.append("a", events(1))
            await session.append("b", events(1))
    assert model() == await rows(store) == []


async def test_cancelled_at_any_moment_both_are_there_or_neither(
    store: SQLiteEventStore, model: Callable[[], object]
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
        assert model() == await rows(store)
    assert cancelled > 10


def test_killed_at_any_moment_both_are_there_or_neither(
    path: Path,
    query: Query,
    start: Start,
    go: Callable[..., None],
) -> None:
    chosen = seeded_random()
    counts: list[tuple[object, ...]] = []
    for turn in range(KILLS):
        process = start("project_until_killed.py", path)
        go(process)
        told = [process.line() for _ in range(chosen.randrange(1, 60))]
        while turn == KILLS - 1 and len(set(told)) < 8:  # each task has written in the end
            told.append(process.line())
        process.kill()
        process.lines()
        assert all(told), "the process has ended by itself"
        counts = query("SELECT stream, max(version) FROM eventport_events GROUP BY stream")
        assert query("SELECT stream, events FROM counts ORDER BY stream") == counts
        assert all(int(str(count)) % 3 == 0 for _, count in counts)
    assert len(counts) == 9


async def test_a_store_without_the_handler_does_not_run_it(
    path: Path, store: SQLiteEventStore, model: Callable[[], list[tuple[object, ...]]]
) -> None:
    async with await SQLiteEventStore.open(path) as other:
        await other.append("a", events(1))
        await store.append("a", events(2))
    assert model() == (await rows(store))[1:]


async def test_a_handler_cannot_wait_for_its_file_by_way_of_another_store(
    path: Path, store: SQLiteEventStore
) -> None:
    async with await SQLiteEventStore.open(path) as other:

        @store.inline
        async def append(_: Sequence[RecordedEvent], __: Writing) -> None:
            with pytest.raises(NotSupportedError, match="holds the write lock of"):
                await other.append("b", events(1))

        await store.append("a", events(1))
        assert (await other.read("b")).version == 0


async def test_a_handler_may_append_to_another_database_in_memory() -> None:
    async with connect("sqlite://") as other:

        async def append(_: Sequence[RecordedEvent], __: Writing) -> None:
            await other.append("b", events(1))

        async with connect("sqlite://", inline=[append]) as store:
            await store.append("a", events(1))
        assert (await other.read("b")).version == 1


async def test_connect_takes_handlers_and_memory_runs_them() -> None:
    seen: list[object] = []

    async def remember(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        seen.append(events[0].data)

    async with connect("sqlite://", inline=[remember]) as store:
        await store.append("a", events(1))
        assert (await store.read("a")).events[0].data == 1
    assert seen == [1]


async def test_a_transaction_of_the_caller_takes_the_handlers_along(
    path: Path, store: SQLiteEventStore, model: Callable[[], object]
) -> None:
    @store.inline
    async def refuse(events: Sequence[RecordedEvent], transaction: Writing) -> None:
        assert transaction.connection is own
        if events[0].data == "bad":
            raise LookupError

    async with aiosqlite.connect(path, isolation_level=None) as own:
        own.row_factory = sqlite3.Row
        await own.execute("BEGIN IMMEDIATE")
        await store.using(own).append("a", events(1))
        await own.execute("ROLLBACK")
        assert model() == await rows(store) == []
        await own.execute("BEGIN IMMEDIATE")
        await store.using(own).append("a", events(1))
        with pytest.raises(InlineProjectionError):
            await store.using(own).append("b", events("bad"))
        await own.execute("COMMIT")
        assert own.row_factory is sqlite3.Row
    assert model() == await rows(store) != []


async def test_a_cancelled_append_leaves_no_half_and_no_savepoint_in_the_callers_transaction(
    store: SQLiteEventStore, path: Path, model: Callable[[], list[tuple[object, ...]]]
) -> None:
    runs = 0

    @store.inline
    async def wait(_: Sequence[RecordedEvent], __: Writing) -> None:
        await asyncio.sleep(0)

    async with aiosqlite.connect(path, isolation_level=None) as own:
        await own.execute("BEGIN IMMEDIATE")

        async def work() -> None:
            await store.using(own).append(f"s-{runs}", events(1, 2))

        async for run in cancel_everywhere("asyncio", work):
            for name in ("eventport_joined", "eventport_commit"):
                with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
                    await own.execute(f"RELEASE {name}")
            await own.execute("COMMIT")
            head = (await store.read(f"s-{runs}")).version
            assert head in ({2} if run.finished else {0, 2}), str(run)
            assert model() == await rows(store)
            runs += 1
            await own.execute("BEGIN IMMEDIATE")
    assert runs > 10


async def test_in_memory_no_read_sees_what_may_be_undone() -> None:
    async with await SQLiteEventStore.open(":memory:") as store:
        working, go_on = asyncio.Event(), asyncio.Event()

        @store.inline
        async def fail(events: Sequence[RecordedEvent], _: Writing) -> None:
            working.set()
            await go_on.wait()
            with pytest.raises(NotSupportedError):
                await store.read("a")
            raise LookupError

        async with no_hang():
            appending = asyncio.create_task(store.append("a", events(1)))
            await working.wait()
            reading = asyncio.create_task(store.read("a"))
            await asyncio.sleep(0)
            go_on.set()
            assert not (await reading).exists
            with pytest.raises(InlineProjectionError):
                await appending
