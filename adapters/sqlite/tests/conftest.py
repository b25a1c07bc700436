"""What the tests of the SQLite store share: files, stores, other processes, a look from outside."""

from __future__ import annotations

import sqlite3

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.sqlite.tests.inlined import Query, project

from eventport_conformance.scripts import Start, go_together, scripts
from eventport_sqlite import SQLiteEventStore


WORKERS = Path(__file__).parent / "workers"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SQLiteEventStore, None]:
    async with await SQLiteEventStore.open(path) as opened:
        yield opened


@pytest.fixture
def start() -> Generator[Start]:
    """Start another process that has imported all it needs and waits for the sign to begin."""
    with scripts(WORKERS) as start_:
        yield start_


@pytest.fixture
def go() -> Callable[..., None]:
    """Let processes begin at the same moment, when all of them are ready."""
    return go_together


@pytest.fixture
def query(path: Path) -> Callable[..., list[tuple[object, ...]]]:
    """Ask the database itself, through a connection of its own, without waiting for a lock."""

    def query_(sql: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            return list(db.execute(sql, values))

    return query_


@pytest.fixture
def model(store: SQLiteEventStore, query: Query) -> Callable[[], list[tuple[object, ...]]]:
    """Register `project`, and give what it has written, as others see it."""
    query("CREATE TABLE model (position INTEGER PRIMARY KEY, stream TEXT, version INTEGER)")
    store.inline(project)
    return lambda: query("SELECT * FROM model ORDER BY position")
