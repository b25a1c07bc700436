"""What may happen to a server, to its connections and to writers, and how it is undone."""

from __future__ import annotations

import asyncio
import os
import random
import signal

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from functools import wraps

import asyncpg

from adapters.postgres.tests.gate import wait_until
from adapters.postgres.tests.server import Server, Standby, bare_connection, running_standby
from anyio import to_thread

from eventport_conformance.chaos import Fault, Writers
from eventport_conformance.journals import Found
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import until


OTHERS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
    "AND usename = 'chaos' AND pid <> pg_backend_pid()"
)


def if_possible(fault: Callable[[Faults], Awaitable[None]]) -> Callable[[Faults], Awaitable[None]]:
    """Let a fault not happen while another one keeps it from that."""

    @wraps(fault)
    async def happen(self: Faults) -> None:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await fault(self)

    return happen


class Faults:
    """All that may happen to writers, to their connections, and to the server.

    Args:
        server: The first server.
        line: What is between the server and its clients.
        schema: Where the events are.
        writers: The writers, which connect as ``chaos``.
        chosen: What chooses.
    """

    def __init__(
        self, server: Server, line: Proxy, schema: str, writers: Writers, chosen: random.Random
    ) -> None:
        self.server: Server | Standby = server
        """The primary."""
        self._line = line
        self._schema = schema
        self._writers = writers
        self._random = chosen
        self.often: list[Fault] = [
            self.drop,
            self.terminate,
            self.cancel,
            self.stop_for_a_moment,
            self.lock,
            self.refuse_logins,
        ]
        self.seldom: list[Fault] = [self.silence, self.kill_writer, self.restart]

    async def drop(self) -> None:
        self._line.drop()

    async def silence(self) -> None:
        self._line.silence(new=False)

    @if_possible
    async def terminate(self) -> None:
        await self._each("SELECT pg_terminate_backend({pid})")

    @if_possible
    async def cancel(self) -> None:
        await self._each("SELECT pg_cancel_backend({pid})")

    @if_possible
    async def stop_for_a_moment(self) -> None:
        async with self.admin() as admin:
            pids = [row[0] for row in await admin.fetch(OTHERS) if self._random.random() < 0.3]
        for sent, pause in (
            (signal.SIGSTOP, self._random.uniform(0.02, 0.4)),
            (signal.SIGCONT, 0),
        ):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, sent)
            await asyncio.sleep(pause)

    @if_possible
    async def lock(self) -> None:
        async with self.admin() as admin:
            # A transaction whose connection fell silent may keep the table locked: that is not
            # waited for, since everybody else would wait behind us.
            await admin.execute("SET lock_timeout = '1s'")
            async with admin.transaction():
                await admin.execute(f'LOCK TABLE "{self._schema}".events IN ACCESS EXCLUSIVE MODE')
                await asyncio.sleep(self._random.uniform(0.02, 0.15))
                if self._random.random() < 0.5:
                    self._line.drop()

    @if_possible
    async def refuse_logins(self) -> None:
        async with self.admin() as admin:
            await admin.execute("ALTER ROLE chaos NOLOGIN")
            self._line.drop()
            await asyncio.sleep(self._random.uniform(0.02, 0.15))
            await admin.execute("ALTER ROLE chaos LOGIN")

    async def kill_writer(self) -> None:
        self._writers.replace(self._random.choice(self._writers.running))

    async def restart(self) -> None:
        await to_thread.run_sync(self.server.stop, self._random.choice(["immediate", "fast"]))
        await to_thread.run_sync(self.server.start)

    def admin(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Connect to the primary, past what is between."""
        return bare_connection(self.server.url)

    async def stored(self) -> list[Found]:
        """Return all events of the primary, in global order."""
        sql = f'SELECT position, stream, version, id FROM "{self._schema}".events ORDER BY position'
        async with self.admin() as admin:
            return [
                Found(row["position"], row["stream"], row["version"], str(row["id"]))
                for row in await admin.fetch(sql)
            ]

    async def _each(self, sql: str) -> None:
        async with self.admin() as admin:
            for row in await admin.fetch(OTHERS):
                if self._random.random() < 0.5:
                    await admin.execute(sql.format(pid=row[0]))


class Promotions:
    """Losses of the primary, whose standby then takes its place, and gets one of its own.

    Args:
        faults: Where the primary is.
        line: Leads to the primary.
        writers: The writers.
        seen: What the reader has seen.
        stack: Ends the standbys.
        synchronous: Whether commits wait for the standby; otherwise it lags behind.
    """

    def __init__(
        self,
        faults: Faults,
        line: Proxy,
        writers: Writers,
        seen: list[Found],
        stack: ExitStack,
        *,
        synchronous: bool,
    ) -> None:
        self._faults = faults
        self._line = line
        self._writers = writers
        self._seen = seen
        self._stack = stack
        self._synchronous = synchronous
        self._standby: Standby | None = None
        self.forgotten: set[str] = set()
        """The ids of events that were lost with a primary."""

    async def follow_primary(self) -> None:
        """Make a standby, and wait until it follows."""
        standby = running_standby(self._faults.server)
        self._standby = await to_thread.run_sync(self._stack.enter_context, standby)
        async with self._faults.admin() as admin:
            if self._synchronous:
                await set_to(admin, "synchronous_standby_names", "*")
            state = "sync" if self._synchronous else "async"
            followers = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = $1"
            await wait_until(admin, followers, state)

    async def promote(self) -> None:
        """Lose the primary, and go on with its standby."""
        lost, standby = self._faults.server, self._standby
        assert standby is not None
        if not self._synchronous:
            await self._let_it_lag(standby)
        await to_thread.run_sync(lost.stop)
        await to_thread.run_sync(standby.promote)
        self._faults.server = standby
        async with self._faults.admin() as admin:
            await set_to(admin, "synchronous_standby_names", "")
        left = {event.id for event in await self._faults.stored()}
        self._line.target = standby.socket
        self._line.drop()
        if not self._synchronous:
            self.forgotten |= await self._stored_in(lost) - left
        await self.follow_primary()

    async def _let_it_lag(self, standby: Standby) -> None:
        """Wait until the reader has seen what the standby will not have."""
        async with bare_connection(standby.url) as follower:
            await set_to(follower, "primary_conninfo", "")
            await wait_until(follower, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        await self._writers.progress()
        stored = await self._faults.stored()
        last = stored[-1].position
        await until(lambda: self._seen[-1].position >= last, "the reader sees what will be lost")

    async def _stored_in(self, lost: Server | Standby) -> set[str]:
        """Return the ids of what was in a primary that was lost; no client can reach it."""
        await to_thread.run_sync(lost.start)
        now, self._faults.server = self._faults.server, lost
        try:
            return {event.id for event in await self._faults.stored()}
        finally:
            self._faults.server = now
            await to_thread.run_sync(lost.stop)


async def set_to(admin: asyncpg.Connection, setting: str, value: str) -> None:
    """Change a setting of a server, and wait until it is in force."""
    await admin.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
    await admin.execute("SELECT pg_reload_conf()")
    await wait_until(admin, "SELECT current_setting($1) = $2", setting, value)
