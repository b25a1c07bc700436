"""An append to a file that was removed, moved or replaced is not acknowledged."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventport import NewEvent, StoreUnavailableError
from eventport.projections.checkpoints import ProjectionId

from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.database import Database
from eventport_sqlite.projections import SQLiteCheckpoints


def remove(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def move_back(path: Path) -> None:
    path.with_name("elsewhere.db").rename(path)


def replace(path: Path) -> None:
    move(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE something (x)")


@pytest.mark.parametrize("vanish", [remove, move, replace])
async def test_appends_and_reads_say_so(
    store: SQLiteEventStore, path: Path, vanish: Callable[[Path], None]
) -> None:
    await store.append("s", [NewEvent("E", 1)])
    vanish(path)
    gone = r"events\.db is not the file that was opened: .*nothing was written"
    with pytest.raises(StoreUnavailableError, match=gone):
        await store.append("s", [NewEvent("E", 2)])
    with pytest.raises(StoreUnavailableError, match=gone):
        async with store.session() as session:
            await session.append("s", [NewEvent("E", 2)])
    with pytest.raises(StoreUnavailableError, match=gone):
        await store.read("s")
    with pytest.raises(StoreUnavailableError, match=gone):
        await store.read_all()


async def test_a_file_that_comes_back_is_the_store_again(
    store: SQLiteEventStore, path: Path
) -> None:
    await store.append("s", [NewEvent("E", 1)])
    move(path)
    with pytest.raises(StoreUnavailableError):
        await store.append("s", [NewEvent("E", 2)])
    move_back(path)
    assert (await store.append("s", [NewEvent("E", 3)])).version == 2
    assert [event.data for event in (await store.read("s")).events] == [1, 3]


async def test_a_file_moved_during_a_commit_leaves_the_outcome_unknown(
    store: SQLiteEventStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the look before the commit and the one after it.
    look = Database.confirm_file

    def move_and_look(database: Database) -> None:
        path.rename(path.with_name("elsewhere.db"))
        look(database)

    monkeypatch.setattr(Database, "confirm_file", move_and_look)
    with pytest.raises(StoreUnavailableError, match="not known whether it is in the file"):
        await store.append("s", [NewEvent("E", 1)])


async def test_a_file_moved_right_before_a_commit_is_named(
    store: SQLiteEventStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def move(database: Database) -> None:
        path.rename(path.with_name("elsewhere.db"))
        monkeypatch.undo()

    monkeypatch.setattr(Database, "require_file", move)
    with pytest.raises(StoreUnavailableError, match=r"removed(,| or) moved"):
        await store.append("s", [NewEvent("E", 1)])


async def test_a_directory_that_is_moved_takes_the_file_with_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    async with await SQLiteEventStore.open(place / "events.db") as store:
        await store.append("s", [NewEvent("E", 1)])
        place.rename(tmp_path / "other")
        with pytest.raises(StoreUnavailableError, match="is not the file"):
            await store.append("s", [NewEvent("E", 2)])


async def test_the_name_is_that_of_the_time_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with await SQLiteEventStore.open("events.db") as store:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        assert (await store.append("s", [NewEvent("E", 1)])).version == 1


async def test_a_file_of_checkpoints(path: Path) -> None:
    async with SQLiteCheckpoints.open(path) as checkpoints:
        lease = await checkpoints.acquire(ProjectionId("p", 1), "me", 60)
        assert lease is not None
        remove(path)
        with pytest.raises(StoreUnavailableError, match="is not the file"):
            async with lease.advance(1):
                pass
