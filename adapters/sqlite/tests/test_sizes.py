"""Proves that large appends work, and that what SQLite refuses is refused as a whole."""

from __future__ import annotations

import asyncio
import sqlite3

from collections.abc import Callable

import pytest

from eventport import NewEvent, PayloadTooLargeError
from eventport.adapter import AllQuery, StreamQuery

from eventport_sqlite import SQLiteEventStore


Query = Callable[..., list[tuple[object, ...]]]


def lower_the_limit(db: sqlite3.Connection) -> None:
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)


async def test_a_thousand_small_events_in_one_append(store: SQLiteEventStore) -> None:
    events = [NewEvent("Small", {"n": n}) for n in range(1000)]
    result = await store.append("s", events)
    assert (result.version, result.position) == (1000, 1000)
    assert [event.data["n"] for event in (await store.read("s")).events] == list(range(1000))


@pytest.mark.parametrize("data", ["é" * 256 * 1024, b"\0" * 512 * 1024, b"\xff" * 5 * 1024**2])
async def test_one_large_event(store: SQLiteEventStore, data: str | bytes) -> None:
    await store.append("s", [NewEvent("Large", data)] * 1)
    (event,) = (await store.read("s")).events
    assert event.data == data


async def test_large_events_come_in_pages_that_are_not_larger(store: SQLiteEventStore) -> None:
    for _ in range(4):
        await store.append("s", [NewEvent("Large", b"x" * 1024**2) for _ in range(3)])
    page = await store._sqlite.read_stream(StreamQuery("s", 1, 12))
    assert len(page.events) == 4
    assert len((await store.read("s")).events) == 12
    assert [e.version for e in (await store.read("s", backwards=True)).events] == [
        *range(12, 0, -1)
    ]
    assert len((await store.read_all()).events) == 12
    assert len([event async for event in store.iterate_all(types=["Large"])]) == 12


async def test_a_page_is_bounded_in_bytes_and_not_in_characters(store: SQLiteEventStore) -> None:
    for _ in range(12):
        await store.append("s", [NewEvent("Large", "🌻" * 256 * 1024)])  # 1 MiB each
    stream = await store._sqlite.read_stream(StreamQuery("s"))
    everything = await store._sqlite.read_all(AllQuery())
    assert len(stream.events) == len(everything.events) == 4


async def test_what_sqlite_refuses_is_not_written_and_spoils_no_other_append(
    store: SQLiteEventStore, query: Query
) -> None:
    await store._sqlite._writer.run(lower_the_limit)
    large = NewEvent("Large", "x" * 100_001)
    small = [NewEvent("Small", None) for _ in range(10)]
    results = await asyncio.gather(
        *(store.append(f"small-{n}", [small[n]]) for n in range(5)),
        store.append("large", [NewEvent("Small", None), large, NewEvent("Small", None)]),
        *(store.append(f"small-{n}", [small[n]]) for n in range(5, 10)),
        return_exceptions=True,
    )
    refused = results.pop(5)
    assert type(refused) is PayloadTooLargeError
    assert type(refused.__cause__) is sqlite3.DataError
    assert all(not isinstance(result, BaseException) for result in results)
    assert query("SELECT count(*) FROM eventport_events WHERE stream = 'large'") == [(0,)]
    assert query("SELECT count(*), max(position) FROM eventport_events") == [(10, 10)]


async def test_a_session_with_one_event_too_large_writes_nothing(
    store: SQLiteEventStore, query: Query
) -> None:
    async def commit() -> None:
        async with store.session() as session:
            await session.append("left", [NewEvent("Small", None)])
            await session.append("right", [NewEvent("Large", b"x" * 100_001)])

    await store._sqlite._writer.run(lower_the_limit)
    with pytest.raises(PayloadTooLargeError):
        await commit()
    assert query("SELECT count(*) FROM eventport_events") == [(0,)]
    query("BEGIN IMMEDIATE")
    assert (await store.append("left", [NewEvent("Small", None)])).position == 1
