"""Proves that everything at once loses, doubles and misses nothing; a bare driver is the oracle."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from uuid import UUID

import asyncpg

from anyio import to_thread
from gate import wait_until
from processes import WORKERS
from server import Server, bare_connection, running_server, url_through

from eventport import RecordedEvent, StoreClosedError

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.waiting import HANG_SECONDS, until
from eventport_postgres import PostgresEventStore


_log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("EVENTPORT_CHAOS_SECONDS", "15"))
PROCESSES = 6
OTHERS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
    "AND usename = 'chaos' AND pid <> pg_backend_pid()"
)


class Chaos:
    """Writers in processes of their own, and all that may happen to them."""

    def __init__(self, server: Server, line: Proxy, schema: str, folder: Path) -> None:
        self._server = server
        self._line = line
        self._schema = schema
        self._folder = folder
        self.rng = random.Random()  # it is no secret
        self._names = count(1)
        self._writers: list[subprocess.Popen[str]] = []

    @property
    def url(self) -> str:
        """Where the clients go."""
        return url_through(self._line, "chaos")

    def start_writer(self) -> None:
        """Start a writer with a name that no other has had."""
        name = f"w{next(self._names)}"
        self._writers.append(
            subprocess.Popen(
                [
                    sys.executable,
                    str(WORKERS / "chaos_writer.py"),
                    *(self.url, self._schema, name, str(self._folder / name)),
                ],
                stdin=subprocess.PIPE,
                text=True,
            )
        )

    async def stop_writers(self) -> None:
        """Let all of them come to their end."""
        for writer in self._writers:
            assert writer.stdin is not None
            writer.stdin.close()
        for writer in self._writers:
            assert await to_thread.run_sync(writer.wait, 60) == 0

    def end(self) -> None:
        """Leave no process running, whatever has happened."""
        for writer in self._writers:
            writer.kill()
            writer.wait()

    async def rage(self) -> None:
        """Disturb them until time is up; each thing is undone before it ends."""
        often: list[Callable[[], Awaitable[None]]] = [
            self._drop,
            self._terminate,
            self._cancel,
            self._stop_for_a_moment,
            self._lock,
            self._refuse_logins,
        ]
        seldom = [self._silence, self._kill_writer, self._restart]
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        rounds = 0
        # On a busy machine, each has to come at least once.
        while loop.time() < end or rounds < len(seldom):
            for _ in range(12):
                await asyncio.sleep(self.rng.uniform(0, 0.15))
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await self.rng.choice(often)()
            await seldom[rounds % len(seldom)]()
            rounds += 1

    async def _drop(self) -> None:
        self._line.drop()

    async def _silence(self) -> None:
        self._line.silence(new=False)

    async def _terminate(self) -> None:
        await self._each("SELECT pg_terminate_backend({pid})")

    async def _cancel(self) -> None:
        await self._each("SELECT pg_cancel_backend({pid})")

    async def _each(self, sql: str) -> None:
        async with bare_connection(self._server.url) as admin:
            for row in await admin.fetch(OTHERS):
                if self.rng.random() < 0.5:
                    await admin.execute(sql.format(pid=row[0]))

    async def _stop_for_a_moment(self) -> None:
        async with bare_connection(self._server.url) as admin:
            pids = [row[0] for row in await admin.fetch(OTHERS) if self.rng.random() < 0.3]
            for sent, pause in ((signal.SIGSTOP, self.rng.uniform(0.02, 0.4)), (signal.SIGCONT, 0)):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, sent)
                await asyncio.sleep(pause)

    async def _lock(self) -> None:
        async with bare_connection(self._server.url) as admin:
            # A transaction whose connection fell silent may keep the table locked: that is not
            # waited for, since everybody else would wait behind us.
            await admin.execute("SET lock_timeout = '1s'")
            with suppress(asyncpg.LockNotAvailableError):
                async with admin.transaction():
                    await admin.execute(
                        f'LOCK TABLE "{self._schema}".events IN ACCESS EXCLUSIVE MODE'
                    )
                    await asyncio.sleep(self.rng.uniform(0.02, 0.15))
                    if self.rng.random() < 0.5:
                        self._line.drop()

    async def _refuse_logins(self) -> None:
        async with bare_connection(self._server.url) as admin:
            await admin.execute("ALTER ROLE chaos NOLOGIN")
            self._line.drop()
            await asyncio.sleep(self.rng.uniform(0.02, 0.15))
            await admin.execute("ALTER ROLE chaos LOGIN")

    async def _kill_writer(self) -> None:
        writer = self._writers.pop(self.rng.randrange(len(self._writers)))
        writer.kill()
        writer.wait()
        assert writer.stdin is not None
        writer.stdin.close()
        self.start_writer()

    async def _restart(self) -> None:
        await to_thread.run_sync(self._server.stop, self.rng.choice(["immediate", "fast"]))
        await to_thread.run_sync(self._server.start)


def read_journals(folder: Path) -> tuple[set[UUID], dict[UUID, tuple[int, int]]]:
    """Return the events that were tried, and those that were acknowledged."""
    tried: set[UUID] = set()
    acknowledged: dict[UUID, tuple[int, int]] = {}
    for journal in folder.iterdir():
        for line in journal.read_text().splitlines():
            word, *rest = line.split()
            if word == "try":
                tried |= {UUID(text) for text in rest}
            elif len(rest) == 3:  # or it was killed while it wrote this
                acknowledged[UUID(rest[0])] = int(rest[1]), int(rest[2])
    return tried, acknowledged


async def follow(store: PostgresEventStore, seen: list[RecordedEvent]) -> None:
    """Follow the store to its end."""
    with suppress(StoreClosedError):
        async with store.subscribe() as subscription:
            async for event in subscription:
                seen.append(event)  # noqa: PERF401  # as it comes


async def test_nothing_is_lost_doubled_missed_or_left_open(schema: str, tmp_path: Path) -> None:
    with running_server("fsync = off\n") as server:
        async with bare_connection(server.url) as admin:
            await admin.execute("CREATE ROLE chaos LOGIN SUPERUSER")
        seen: list[RecordedEvent] = []
        async with open_proxy(server.socket) as line:
            chaos = Chaos(server, line, schema, tmp_path)
            try:
                store = await PostgresEventStore.connect(chaos.url, schema=schema, timeout=3)
                following = asyncio.create_task(follow(store, seen))
                for _ in range(PROCESSES):
                    chaos.start_writer()
                async with asyncio.timeout(SECONDS + HANG_SECONDS):
                    await chaos.rage()
                    await chaos.stop_writers()
            finally:
                chaos.end()
            async with bare_connection(server.url) as admin:
                rows = await admin.fetch(
                    f'SELECT id, stream, version, position FROM "{schema}".events ORDER BY position'
                )
                all_seen = lambda: len(seen) >= len(rows) or following.done()  # noqa: E731  # short
                await until(all_seen, "the subscription yields all")
                await store.aclose()
                await following
                await wait_until(admin, f"SELECT count(*) = 0 FROM ({OTHERS}) AS o")  # ours
    tried, acknowledged = read_journals(tmp_path)
    stored = {row["id"]: (row["version"], row["position"]) for row in rows}
    _log.info("%d events, %d appends", len(rows), len(acknowledged))
    assert acknowledged
    assert len(stored) == len(rows), "doubled"
    assert {id_: stored.get(id_) for id_ in acknowledged} == acknowledged, "lost"
    assert stored.keys() <= tried
    assert [(event.id, event.position) for event in seen] == [
        (row["id"], row["position"]) for row in rows
    ], "missed, repeated or out of order"
    heads: dict[str, int] = {}
    for row in rows:
        assert row["version"] == heads.get(row["stream"], 0) + 1
        heads[row["stream"]] = row["version"]
