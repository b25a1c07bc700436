"""Proves that what is not ours, or cannot be written to, is refused clearly and not touched."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from eventport import (
    ConfigurationError,
    IncompatibleStoreError,
    InvalidArgumentTypeError,
    NewEvent,
    NotSupportedError,
    connect,
)

from eventport_conformance.scripts import Start
from eventport_conformance.waiting import START_SECONDS
from eventport_sqlite import SQLiteEventStore


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return the bytes of each file, and when it was last changed."""
    return {
        file.name: (file.read_bytes() if file.is_file() else b"", file.lstat().st_mtime_ns)
        for file in directory.iterdir()
    }


def make(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def newer(path: Path) -> None:
    make(path, "CREATE TABLE eventport_schema (version)", "INSERT INTO eventport_schema VALUES (3)")


def newer_in_wal_mode(path: Path) -> None:
    newer(path)
    make(path, "PRAGMA journal_mode = WAL")


def older_than_any(path: Path) -> None:
    make(path, "CREATE TABLE eventport_schema (version)", "INSERT INTO eventport_schema VALUES (0)")


def same_name(path: Path) -> None:
    make(path, "CREATE TABLE eventport_schema (something_else)")


def without_version(path: Path) -> None:
    make(path, "CREATE TABLE eventport_schema (version)")


def foreign(path: Path) -> None:
    make(path, "CREATE TABLE customers (name)", "INSERT INTO customers VALUES ('Ann')")


def foreign_in_wal_mode(path: Path) -> None:
    foreign(path)
    make(path, "PRAGMA journal_mode = WAL")


def foreign_with_a_log(path: Path) -> None:
    leave(path, "wal")


def foreign_with_a_hot_journal(path: Path) -> None:
    leave(path, "delete")


def leave(path: Path, mode: str) -> None:
    script = Path(__file__).parent / "workers" / "leave_a_log.py"
    subprocess.run(
        [sys.executable, str(script), str(path), mode], check=True, timeout=START_SECONDS
    )
    assert len(list(path.parent.iterdir())) > 1


def text(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def short_text(path: Path) -> None:
    path.write_text("hello")


def damaged(path: Path) -> None:
    foreign(path)
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (newer, "has schema version 3; this eventport-sqlite knows 2"),
        (newer_in_wal_mode, "has schema version 3"),
        (older_than_any, "has schema version 0"),
        (without_version, "has schema version None"),
        (same_name, "no such column: version"),
        (foreign, "belongs to another program .*customers"),
        (foreign_in_wal_mode, "belongs to another program"),
        (foreign_with_a_log, "belongs to another program"),
        (foreign_with_a_hot_journal, "belongs to another program"),
        (text, "is not an SQLite database; it was not touched"),
        (short_text, "is not an SQLite database"),
        (damaged, "damaged"),
    ],
)
async def test_what_is_not_ours_is_refused_and_stays_as_it_is(
    path: Path, prepare: Callable[[Path], None], said: str
) -> None:
    prepare(path)
    before = contents(path.parent)
    for _ in range(2):
        with pytest.raises(IncompatibleStoreError, match=said):
            await SQLiteEventStore.open(path)
    assert contents(path.parent) == before


def directory(path: Path) -> None:
    path.mkdir()


def read_only(path: Path) -> None:
    foreign(path)
    path.chmod(0o444)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def pipe_behind_a_link(path: Path) -> None:
    target = path.with_name("pipe")
    os.mkfifo(target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (directory, "is a directory: name a file in it"),
        (read_only, "is read-only"),
        (pipe, "is not a regular file"),
        (pipe_behind_a_link, "is not a regular file"),
    ],
)
async def test_what_cannot_hold_a_store_is_refused(
    path: Path, prepare: Callable[[Path], None], said: str
) -> None:
    prepare(path)
    before = contents(path.parent)
    with pytest.raises(ConfigurationError, match=said):
        await SQLiteEventStore.open(path)
    assert contents(path.parent) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "cannot be the name of a file"),
        (".", "is a directory"),
        ("missing/events.db", "the directory of .* does not exist: create"),
        ("nul\0.db", "cannot be the name of a file"),
        ("n" * 300, "File name too long"),
        ("\ud800.db", "surrogates not allowed"),
        ("/dev/null", "is not a regular file"),
        ("/proc/events.db", "cannot be opened|does not exist"),
    ],
)
async def test_a_name_that_no_file_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with pytest.raises(ConfigurationError, match=said):
            await SQLiteEventStore.open(name, create=create)
    assert contents(tmp_path) == {}


def test_a_user_who_may_not_write_is_told_so(start: Start) -> None:
    output, _ = start("open_unprivileged.py").communicate(timeout=START_SECONDS)
    new, there, theirs, left = output.splitlines()
    assert "cannot be opened for writing" in new
    assert "cannot be opened for writing" in there
    assert "cannot be opened for writing" in theirs
    assert left == "['theirs.db', 'there.db']"


@pytest.mark.parametrize("name", [None, 3, 1.5, ["a.db"], object()])
async def test_a_name_of_the_wrong_type_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgumentTypeError, match="path must be text or a path"):
        await SQLiteEventStore.open(name)


@pytest.mark.parametrize(
    "options",
    [
        {"synchronous": "off"},
        {"synchronous": "FULL; DROP TABLE eventport_events"},
        {"synchronous": None},
        {"busy_timeout": -1},
        {"busy_timeout": float("nan")},
        {"busy_timeout": float("inf")},
        {"busy_timeout": 1e12},
        {"busy_timeout": "30"},
        {"busy_timeout": None},
    ],
)
async def test_a_wrong_option_is_refused(path: Path, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"option {name}=.*(Expected|takes)"):
        await SQLiteEventStore.open(path, **options)
    assert contents(path.parent) == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://events.db", "names a host: a file is written sqlite:///NAME"),
        ("sqlite:///{}?busy_timeuot=1", "did you mean 'busy_timeout'"),
        ("sqlite:///{}?synchronous=off", "synchronous"),
        ("sqlite:///{}?busy_timeout=soon", "busy_timeout"),
        ("sqlite:///{}?busy_timeout=-1", "option busy_timeout=.*Expected `float` >= 0"),
    ],
)
async def test_a_wrong_url_is_refused(path: Path, url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        async with connect(url.format(path)):
            pass
    assert contents(path.parent) == {}


@pytest.mark.parametrize("empty", [False, True])
async def test_a_store_that_may_not_be_created_has_to_be_there(path: Path, *, empty: bool) -> None:
    if empty:
        path.touch()  # noqa: ASYNC240  # nothing else runs in the event loop
    before = contents(path.parent)
    with pytest.raises(ConfigurationError, match=r"events\.db does not exist or is empty: "):
        await SQLiteEventStore.open(path, create=False)
    with pytest.raises(ConfigurationError, match=r"events\.db does not exist or is empty: "):
        async with connect(f"sqlite:///{path}", create=False):
            pass
    assert contents(path.parent) == before
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", [NewEvent("E", None)])
    async with connect(f"sqlite:///{path}?create=false") as again:
        assert (await again.read("s")).version == 1


def test_trio_is_refused(path: Path) -> None:
    async def main() -> None:
        with pytest.raises(NotSupportedError, match="asyncio only"):
            await SQLiteEventStore.open(path)

    trio.run(main)
    assert contents(path.parent) == {}


async def test_tables_that_go_missing_are_not_taken_for_a_lack_of_events(
    path: Path, store: SQLiteEventStore
) -> None:
    await store.append("s", [NewEvent("Stored", None)])
    make(path, "DROP TABLE eventport_events")
    with pytest.raises(IncompatibleStoreError, match="no such table"):
        await store.append("s", [NewEvent("Stored", None)])
    with pytest.raises(IncompatibleStoreError, match="no such table"):
        await store.read("s")
