"""What others reported of SQLite, its drivers and stores on it, replayed here.

The reports are listed in docs/reports-of-others.md.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys

from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from anyio import create_task_group

from eventport import NewEvent, Session, connect, run_in_session

from eventport_conformance.waiting import START_SECONDS, no_hang
from eventport_sqlite import SQLiteEventStore


LEFT_OPEN = """
import asyncio, sys
from pathlib import Path
from eventport import NewEvent
from eventport_sqlite import SQLiteEventStore

async def main():
    store = await SQLiteEventStore.open(Path(sys.argv[1]))
    await store.append("a", [NewEvent("T", 1)])
    print("appended", flush=True)
    globals()['kept'] = store

asyncio.run(main())
"""


def test_a_program_that_forgets_to_close_its_store_ends(path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert ran.stdout == "appended\n", ran.stderr
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM eventport_events").fetchone() == (1,)


async def test_what_reads_before_it_writes_is_never_told_that_the_file_is_locked(
    path: Path,
) -> None:
    """A transaction that reads first cannot become a writer once another one has committed."""
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(await SQLiteEventStore.open(path)) for _ in range(3)
        ]

        async def count_up(store: SQLiteEventStore) -> None:
            async def add(session: Session) -> None:
                seen = await session.read("total")
                await session.append("total", [NewEvent("Added", seen.version)])
                await session.append("log", [NewEvent("Added", seen.version)])

            for _ in range(15):
                await run_in_session(store, add, attempts=1000)

        with no_hang():
            async with create_task_group() as group:
                for store in stores * 2:
                    group.start_soon(count_up, store)
        events = (await stores[0].read("total")).events
    assert [event.data for event in events] == list(range(90))


async def test_many_tasks_of_several_stores_append_at_once(path: Path) -> None:
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(await SQLiteEventStore.open(path)) for _ in range(3)
        ]
        with no_hang():
            async with create_task_group() as group:
                for number in range(300):
                    store = stores[number % 3]
                    group.start_soon(store.append, f"s-{number}", [NewEvent("T", number)])
        positions = [event.position for event in (await stores[0].read_all()).events]
    assert len(positions) == 300
    assert positions == sorted(set(positions))


async def test_a_reader_in_the_middle_keeps_no_writer_waiting_and_lets_the_log_shrink(
    path: Path,
) -> None:
    """A reader that holds a snapshot keeps the write-ahead log from being reused."""
    log = path.with_name(path.name + "-wal")
    async with (
        await SQLiteEventStore.open(path, busy_timeout=0) as reader,
        await SQLiteEventStore.open(path, busy_timeout=0) as writer,
    ):
        await writer.append("a", [NewEvent("T", number) for number in range(5000)])
        reading, all_, largest = reader.iterate("a"), reader.iterate_all(), 0
        async with reader.subscribe() as events, reader.session() as session:
            await anext(reading)
            await anext(all_)
            await anext(events)
            await session.read("a", max_count=1)
            for number in range(100):
                await writer.append("b", [NewEvent("T", "x" * 250_000 + str(number))])
                largest = max(largest, log.stat().st_size)
        await reading.aclose()
        await all_.aclose()
    assert largest < 12_000_000, "25 MB were written"


async def test_a_prefix_has_no_wildcards_and_a_case(store: SQLiteEventStore) -> None:
    names = ["a_b", "axb", "A_B", "a%b", "a%", "a*b", "a[b]", "ä_b", "a\U0010ffffb"]
    for name in names:
        await store.append(name, [NewEvent("T", name)])
    for prefix in ["a_", "a%", "a*", "a[", "A", "a", "ä", "a\U0010ffff", "%", "_", "*"]:
        found = [event.stream for event in (await store.read_all(prefix=prefix)).events]
        assert found == [name for name in names if name.startswith(prefix)], prefix


async def test_text_that_looks_like_a_number_stays_text(store: SQLiteEventStore) -> None:
    texts = ["007", "7", "7.0", "1e5", "100000", "15E2621", "0x10", " 7", "-0", "NULL", "2E5"]
    for text in texts:
        await store.append(text, [NewEvent(text, text, {"text": text}, tags=frozenset({text}))])
    for text in texts:
        (event,) = (await store.read(text)).events
        assert (event.stream, event.type, event.data) == (text, text, text)
        assert (event.metadata, event.tags) == ({"text": text}, frozenset({text}))
        (typed,) = (await store.read_all(types=[text])).events
        assert typed == event


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name", ["a#b.db", "a?b.db", "a?mode=memory.db", "a%20b.db", "100%.db", "a b.db", "ž&é=.db"]
)
async def test_a_path_with_characters_of_urls_names_this_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "dir #1%41"
    folder.mkdir()
    async with await SQLiteEventStore.open(folder / name) as store:
        await store.append("a", [NewEvent("T", 1)])
    if "?" not in name:  # where the options of a URL begin
        async with connect(f"sqlite:///{folder / name}", create=False) as store:
            assert (await store.read("a")).version == 1
    assert (names(folder), names(tmp_path)) == ({name}, {folder.name})


async def test_positions_survive_vacuum_and_are_not_given_out_again(
    tmp_path: Path, path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with await SQLiteEventStore.open(path) as store:
        for number in range(10):
            await store.append(f"s-{number % 3}", [NewEvent("T", number)])
        before = (await store.read_all()).events
        async with store.subscribe() as events:
            for _ in before:
                await anext(events)
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute(
                    "DELETE FROM eventport_events WHERE position >= ?", [before[-2].position]
                )
                db.execute("VACUUM")
                db.execute("VACUUM INTO ?", [str(copy)])
            assert (await store.read_all()).events == before[:-2]
            await store.append("new", [NewEvent("T", "new")])
            with no_hang():
                assert (await anext(events)).data == "new"
    async with await SQLiteEventStore.open(copy) as store:
        assert (await store.read_all()).events == before[:-2]
        await store.append("new", [NewEvent("T", "new")])
        (event,) = (await store.read("new")).events
        assert event.position > before[-1].position


async def test_the_largest_numbers_are_positions_and_versions_like_others(
    store: SQLiteEventStore,
) -> None:
    """A number beyond 64 bits is an error of the driver; those up to there are not."""
    await store.append("a", [NewEvent("T", 1)])
    last = 2**63 - 1
    assert (await store.read("a", from_version=last, to_version=last)).events == []
    assert (await store.read("a", to_version=last, backwards=True)).version == 1
    assert len((await store.read("a", max_count=last)).events) == 1
    assert (await store.read_all(after=last)).events == []
    assert len((await store.read_all(max_count=last)).events) == 1


async def test_a_copy_made_while_it_is_written_is_a_whole_store(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with await SQLiteEventStore.open(path) as store:

        async def write() -> None:
            for number in range(200):
                await store.append("a", [NewEvent("T", number), NewEvent("T", number)])

        async with create_task_group() as group:
            group.start_soon(write)
            while (await store.read("a", max_count=0)).version < 50:
                await store.read("a")
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
    async with await SQLiteEventStore.open(copy) as store:
        events = (await store.read("a")).events
        assert len(events) >= 50
        assert [event.data for event in events] == [n // 2 for n in range(len(events))]
        assert len(events) % 2 == 0
        assert (await store.append("a", [NewEvent("T", "next")])).version == len(events) + 1
