"""Proves that stores open wherever a URL or a path says, and what each of them can do."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from pathlib import Path

import pytest

from eventport import Capability, NewEvent, connect
from eventport.projections import ProjectionId

from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.places import relative_to
from eventport_sqlite.projections import SQLiteCheckpoints


IN_MEMORY = frozenset(
    {
        Capability.SESSIONS,
        Capability.GLOBAL_ORDER,
        Capability.GUARDS,
        Capability.CONDITIONS,
        Capability.TIMES,
        Capability.CATALOGUE,
    }
)
IN_FILE = IN_MEMORY | {Capability.SHARED, Capability.DURABLE}


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
async def test_a_database_in_memory_belongs_to_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with connect(url) as one, connect(url) as other:
        assert one.capabilities == IN_MEMORY
        async with one.session() as session:
            await session.append("left", [NewEvent("Stored", 1)])
            await session.append("right", [NewEvent("Stored", 2)])
        async with one.subscribe() as subscription:
            assert [(await anext(subscription)).data for _ in range(2)] == [1, 2]
        assert (await one.read("left")).version == 1
        assert (await other.read("left")).version == 0
    async with connect(url) as again:
        assert (await again.read("left")).version == 0
    assert names(tmp_path) == []


async def test_a_store_in_memory_says_why_it_is_not_shared() -> None:
    async with await SQLiteEventStore.open(":memory:") as store:
        assert store.capabilities == IN_MEMORY
        reasons = store.limitations
        assert "belongs to one store; name a file" in reasons[Capability.SHARED]
        assert "ends with its store; name a file" in reasons[Capability.DURABLE]
        assert "subscriptions poll" in reasons[Capability.PUSH]


@pytest.mark.parametrize(
    "name",
    ["events.db", "with space.db", "per%20cent.db", "ha#sh.db", "ünï.db", "file:x.db", "a&b=c.db"],
)
async def test_relative_and_absolute_urls_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with connect(f"sqlite:///{name}") as store:
        assert store.capabilities == IN_FILE
        assert repr(store) == f"<SQLiteEventStore: {name}>"
        await store.append("s", [NewEvent("Stored", None)])
    assert names(tmp_path) == [name]
    async with connect(f"sqlite:///{tmp_path}/{name}") as store:
        assert (await store.read("s")).version == 1


def test_only_relative_paths_start_from_a_directory(tmp_path: Path) -> None:
    moved = f"sqlite:///{tmp_path}/events.db?create=false"
    assert relative_to("sqlite:///events.db?create=false", tmp_path) == moved
    for url in ("sqlite:////absolute.db", "sqlite:///:memory:", "sqlite://", "sqlite:"):
        assert relative_to(url, tmp_path) == url


async def test_a_path_may_be_text_or_an_object(tmp_path: Path) -> None:
    path = tmp_path / "question?mark.db"  # a URL could not say this
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", [NewEvent("Stored", None)])
    async with await SQLiteEventStore.open(str(path)) as store:
        assert (await store.read("s")).version == 1


async def test_a_link_and_its_target_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "target.db")
    async with (
        await SQLiteEventStore.open(tmp_path / "link.db") as link,
        await SQLiteEventStore.open(tmp_path / "target.db") as target,
    ):
        await link.append("s", [NewEvent("Stored", None)])
        assert (await target.read("s")).version == 1
        await target.append("s", [NewEvent("Stored", None)], expected=1)
        assert (await link.read("s")).version == 2


@pytest.fixture
def empty(path: Path) -> Path:
    path.touch()
    return path


async def test_a_file_that_is_there_but_empty_becomes_a_store(empty: Path) -> None:
    async with await SQLiteEventStore.open(empty) as store:
        assert (await store.append("s", [NewEvent("Stored", None)])).position == 1


async def test_checkpoints_may_be_in_a_database_of_the_program(tmp_path: Path) -> None:
    file = tmp_path / "model.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE events (mine)")
    async with SQLiteCheckpoints.open(file) as checkpoints:
        assert await checkpoints.acquire(ProjectionId("p", 1), "me", 60.0) is not None
