"""Proves that everything at once loses, doubles, tears and misses nothing; `sqlite3` is the oracle.

Each fault comes at least once; `EVENTPORT_CHAOS_SECONDS=600` lets it go on for ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import threading
import time

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID

from anyio import to_thread

from eventport_conformance.chaos import (
    Fault,
    Found,
    Writers,
    chaos_seconds,
    check,
    disturb,
    follow,
    seeded_random,
    until_seen,
)
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_sqlite import SQLiteEventStore


_log = logging.getLogger(__name__)

Query = Callable[..., list[tuple[object, ...]]]

SECONDS = chaos_seconds(0)
PROCESSES = 3
LEAVES = 400
"""One of the readers leaves its subscription each time after so many events."""
BUSY_TIMEOUT = 0.5
"""Seconds that a writer waits for a lock: some of the faults last longer."""


class Chaos:
    """All that may happen to writers of a file, and to the file."""

    def __init__(self, path: Path, writers: Writers, chosen: random.Random) -> None:
        self._path = path
        self._writers = writers
        self._random = chosen
        self.often: list[Fault] = [
            self._lock,
            self._lock_for_long,
            self._stop_for_a_moment,
            self._keep_a_reader,
            self._checkpoint,
        ]
        self.seldom: list[Fault] = [self._kill_a_writer, self._stop_all, self._kill_all]

    async def _lock(self) -> None:
        await self._hold(["BEGIN IMMEDIATE"], self._random.uniform(0.01, 0.2))

    async def _lock_for_long(self) -> None:
        await self._hold(["BEGIN EXCLUSIVE"], 1.5 * BUSY_TIMEOUT)

    async def _keep_a_reader(self) -> None:
        """Keep a snapshot, so that the log cannot be reset."""
        sql = ["BEGIN", "SELECT count(*) FROM eventport_events"]
        await self._hold(sql, self._random.uniform(0.01, 0.3))

    async def _checkpoint(self) -> None:
        mode = self._random.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        await self._hold([f"PRAGMA wal_checkpoint({mode})"], 0)

    async def _hold(self, sql: list[str], seconds: float) -> None:
        """Run statements through a foreign connection, and keep what they have locked."""

        def hold() -> None:
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as db:
                for statement in sql:
                    db.execute(statement).fetchall()
                time.sleep(seconds)

        await to_thread.run_sync(hold)

    async def _stop_for_a_moment(self) -> None:
        """Stop a process, which may hold the lock."""
        await self._stop(1, self._random.uniform(0.02, 2 * BUSY_TIMEOUT))

    async def _stop_all(self) -> None:
        await self._stop(PROCESSES, 2 * BUSY_TIMEOUT)

    async def _stop(self, count: int, seconds: float) -> None:
        stopped = self._random.sample(self._writers.running, count)
        for writer in stopped:
            writer.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for writer in stopped:
            writer.send_signal(signal.SIGCONT)

    async def _kill_a_writer(self) -> None:
        self._writers.replace(self._random.choice(self._writers.running))

    async def _kill_all(self) -> None:
        for writer in tuple(self._writers.running):
            self._writers.replace(writer)


def stored_in(path: Path) -> list[Found]:
    """Return all events, as a bare `sqlite3` finds them."""
    sql = "SELECT position, stream, version, id FROM eventport_events ORDER BY position"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [
            Found(position, stream, version, str(UUID(bytes=id_)))
            for position, stream, version, id_ in db.execute(sql)
        ]


def files_of(path: Path) -> list[Path]:
    """Return the files of a database that there are."""
    return list(path.parent.glob(f"{path.name}*"))


def open_files(path: Path) -> list[str]:
    """Return which files of a database this process has open."""
    files = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            files.append(os.readlink(number))  # noqa: PTH115  # Path.readlink resolves it
        except FileNotFoundError:
            continue  # that of this very look
    return [name for name in files if name.startswith(str(path))]


async def test_nothing_is_lost_doubled_torn_missed_or_left_open(
    path: Path, tmp_path: Path, query: Query
) -> None:
    chosen = seeded_random()
    threads = threading.active_count()
    journals = tmp_path / "journals"
    journals.mkdir()
    seen: tuple[list[Found], list[Found]] = ([], [])
    writers = Writers([f"sqlite:///{path}?busy_timeout={BUSY_TIMEOUT}"], journals)
    async with (
        no_hang(seconds=2 * SECONDS + 10 * HANG_SECONDS),
        await SQLiteEventStore.open(path) as store,
        asyncio.TaskGroup() as following,
    ):
        following.create_task(follow(store, seen[0]))
        following.create_task(follow(store, seen[1], leave_after=LEAVES))
        try:
            for _ in range(PROCESSES):
                writers.start()
            chaos = Chaos(path, writers, chosen)
            happened = await disturb(SECONDS, writers, chosen, chaos.often, chaos.seldom)
            await writers.stop()
        finally:
            writers.end()
        stored = await to_thread.run_sync(stored_in, path)
        await until_seen(len(stored), *seen)
        await store.aclose()
    _log.info("%s; %s", check(stored, journals, *seen), dict(happened))
    # Nothing is left open: no lock, no file, no thread; the last one to leave removes the log.
    assert query("BEGIN EXCLUSIVE") == []
    assert files_of(path) == [path]
    assert open_files(path) == []
    await until(lambda: threading.active_count() <= threads + 1, "threads end")
