"""Proves that closing ends what is pending, that nothing works after it, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import threading

from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventport import EventportError, NewEvent, StoreClosedError

from eventport_conformance.scripts import Start
from eventport_conformance.waiting import HANG_SECONDS
from eventport_sqlite import SQLiteEventStore


Query = Callable[..., list[tuple[object, ...]]]


def event() -> list[NewEvent]:
    return [NewEvent("Happened", None)]


async def test_what_is_pending_ends_first(path: Path, query: Query) -> None:
    async with await SQLiteEventStore.open(path) as store:
        appends = [asyncio.create_task(store.append(f"s-{n % 7}", event())) for n in range(500)]
        await asyncio.sleep(0)  # let them all begin
        await store.aclose()
        results = [append.result() for append in appends]  # none is still pending
        assert sorted(result.position or 0 for result in results) == list(range(1, 501))
        assert query("SELECT count(*) FROM eventport_events") == [(500,)]


async def test_it_can_be_closed_twice_and_by_many_at_once(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        pending = asyncio.create_task(store.append("s", event()))
        await asyncio.sleep(0)
        await asyncio.gather(*(store.aclose() for _ in range(5)))
        assert (await pending).version == 1
        await store.aclose()
        async with store:
            pass


async def iterate(store: SQLiteEventStore) -> None:
    async for _ in store.iterate("s"):
        pass


async def iterate_all(store: SQLiteEventStore) -> None:
    async for _ in store.iterate_all():
        pass


async def subscribe(store: SQLiteEventStore) -> None:
    async with store.subscribe() as subscription:
        await anext(subscription)


async def session(store: SQLiteEventStore) -> None:
    async with store.session() as opened:
        await opened.append("in-session", event())


CALLS: list[Callable[[SQLiteEventStore], Awaitable[object]]] = [
    lambda store: store.append("s", event()),
    lambda store: store.append("s", []),
    lambda store: store.read("s"),
    lambda store: store.read_all(),
    lambda store: store.aggregate("s", lambda state, _: state, lambda: None),
    iterate,
    iterate_all,
    subscribe,
    session,
]


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_after_closing_is_refused(
    path: Path, call: Callable[[SQLiteEventStore], Awaitable[object]]
) -> None:
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", event())
        await store.aclose()
        with pytest.raises(StoreClosedError):
            await call(store)


async def test_what_has_begun_before_closing_is_refused_after_it(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", event() + event())
        events = store.iterate("s")
        await anext(events)
        entered = store.session()
        opened = await entered.__aenter__()
        await opened.append("in-session", event())
        subscribed = store.subscribe(after=2)
        subscription = await subscribed.__aenter__()
        waiting = asyncio.create_task(anext(subscription))
        await subscription.caught_up.wait()
        await store.aclose()
        with pytest.raises(StoreClosedError):
            await opened.read("other")
        with pytest.raises(StoreClosedError):
            await entered.__aexit__(None, None, None)
        with pytest.raises(StoreClosedError):
            await asyncio.wait_for(waiting, HANG_SECONDS)
        await subscribed.__aexit__(None, None, None)
        await anext(events)  # it was in the page already


@pytest.mark.parametrize("seed", range(20))
async def test_a_race_with_closing_raises_only_that_it_is_closed(
    path: Path, query: Query, seed: int
) -> None:
    chosen = random.Random(seed)
    async with await SQLiteEventStore.open(path) as store:
        acknowledged: list[int] = []

        async def append_forever(number: int) -> None:
            while True:
                result = await store.append(f"s-{number % 3}", event())
                acknowledged.append(result.position or 0)

        async def call_forever(call: Callable[[SQLiteEventStore], Awaitable[object]]) -> None:
            while True:
                await call(store)

        tasks = [asyncio.create_task(append_forever(number)) for number in range(6)]
        tasks += [asyncio.create_task(call_forever(call)) for call in CALLS]
        for _ in range(chosen.randrange(60)):
            await asyncio.sleep(0)
        await store.aclose()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert type(error) is StoreClosedError
        stored = query("SELECT position FROM eventport_events")
        assert {(position,) for position in acknowledged} <= set(stored)


async def test_closing_leaves_no_thread_and_no_log_behind(path: Path) -> None:
    before = set(threading.enumerate())
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", event())
        threads = set(threading.enumerate()) - before
    assert len(threads) == 2
    for thread in threads:
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.fixture
def no_database(path: Path) -> Path:
    path.write_bytes(b"no database " * 100)
    return path


async def test_a_store_that_cannot_be_opened_leaves_no_thread_behind(no_database: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(EventportError):
        await SQLiteEventStore.open(no_database)
    for thread in set(threading.enumerate()) - before:
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()


def test_a_loop_that_ends_right_after_a_failure_hears_nothing_more(no_database: Path) -> None:
    for _ in range(20):
        with pytest.raises(EventportError):
            asyncio.run(SQLiteEventStore.open(no_database))
    gc.collect()


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("error", 3), ("busy", 0)])
def test_a_program_that_does_not_close_its_store_ends_all_the_same(
    path: Path, start: Start, query: Query, how: str, code: int
) -> None:
    process = start("leave_open.py", path, how)
    assert process.wait(HANG_SECONDS) == code
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert query("SELECT version FROM eventport_events WHERE stream = 'left'") == [(1,)]
