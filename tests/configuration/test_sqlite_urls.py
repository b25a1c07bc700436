"""`connect` opens the SQLite files that it was meant to, and touches no other."""
# ruff: noqa: ASYNC240  # nothing else runs in the event loop while a test looks at its files

from __future__ import annotations

import sqlite3
import stat

from pathlib import Path

import pytest

from tests.configuration.refusing import refusal

from eventport import (
    IncompatibleStoreError,
    NewEvent,
    connect,
)


@pytest.mark.parametrize("url", ["sqlite:///relative.db", "sqlite:///{}/absolute.db"])
async def test_a_url_names_a_file_as_it_does_for_sqlalchemy(tmp_path: Path, url: str) -> None:
    url = url.format(tmp_path)
    async with connect(url) as store:
        await store.append("s", [NewEvent("T", 1)])
    assert [path.name for path in tmp_path.iterdir()] == [url.rpartition("/")[2]]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
async def test_a_url_without_a_file_is_a_database_in_memory(tmp_path: Path, url: str) -> None:
    async with connect(url) as store:
        await store.append("s", [NewEvent("T", 1)])
        assert (await store.read("s")).version == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_url_with_a_host_is_refused() -> None:
    assert await refusal("sqlite://orders.db") == (
        "sqlite://orders.db names a host: a file is written sqlite:///NAME"
    )


def make_database(name: str, *statements: str) -> bytes:
    db = sqlite3.connect(name)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    return Path(name).read_bytes()


@pytest.mark.parametrize("content", [b"not a database", b"\0" * 4096, b"SQLite format 3\0garbage"])
async def test_a_file_that_is_no_database_is_not_touched(content: bytes) -> None:
    Path("s.db").write_bytes(content)
    assert "s.db" in await refusal("sqlite:///s.db")
    assert Path("s.db").read_bytes() == content
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_database_of_another_program_is_not_touched() -> None:
    before = make_database(
        "s.db", "CREATE TABLE customers (name)", "INSERT INTO customers VALUES (1)"
    )
    message = await refusal("sqlite:///s.db")
    assert "s.db belongs to another program (it holds customers)" in message
    assert Path("s.db").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_database_of_a_newer_version_is_not_touched() -> None:
    async with connect("sqlite:///s.db") as store:
        await store.append("s", [NewEvent("T", 1)])
    before = make_database("s.db", "UPDATE eventport_schema SET version = 99")
    with pytest.raises(IncompatibleStoreError, match="version 99"):
        await connect("sqlite:///s.db").__aenter__()
    assert Path("s.db").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert await refusal(f"sqlite:///{tmp_path}") == (
        f"{tmp_path} is a directory: name a file in it"
    )


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert await refusal("sqlite:///nope/s.db") == (
        f"the directory of nope/s.db does not exist: create {tmp_path / 'nope'}"
    )
    assert list(tmp_path.iterdir()) == []


async def test_a_read_only_file_is_refused() -> None:
    async with connect("sqlite:///s.db"):
        pass
    file = Path("s.db")
    before = file.read_bytes()
    file.chmod(stat.S_IRUSR)
    assert await refusal("sqlite:///s.db") == (
        "s.db is read-only: an event store needs to write to it"
    )
    assert file.read_bytes() == before
