"""What the tests of the SQLite store share: files, stores, other processes, a look from outside."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

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
def start() -> Generator[Callable[..., subprocess.Popen[str]], None, None]:
    """Start another process that has imported all it needs and waits to be told when."""
    started: list[subprocess.Popen[str]] = []

    def start_(script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(WORKERS / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_
    for process in started:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def go() -> Callable[..., None]:
    """Let processes begin at the same moment, when all of them are ready."""

    def go_(*processes: subprocess.Popen[str]) -> None:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        begin = time.time() + 0.1
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{begin}\n")
            process.stdin.flush()

    return go_


@pytest.fixture
def query(path: Path) -> Callable[..., list[tuple[object, ...]]]:
    """Ask the database itself, through a connection of its own, without waiting for a lock."""

    def query_(sql: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            return list(db.execute(sql, values))

    return query_
