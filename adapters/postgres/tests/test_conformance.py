"""The store in PostgreSQL is conformant."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count
from os import getpid
from typing import Any, ClassVar, Final
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import asyncpg
import pytest

from adapters.postgres.tests.server import Server, bare_connection, running_server
from anyio import to_thread

from eventport import EventStore, NewEvent
from eventport.adapter import Store
from eventport.projections import CheckpointStore, open_checkpoints
from eventport.snapshot_stores import SnapshotStore, StreamSnapshotStore

from eventport_conformance import Capabilities, Harness, conformance
from eventport_conformance.hard import without_polling
from eventport_conformance.notes import DocumentNotes, Notes
from eventport_conformance.waiting import until
from eventport_postgres import PostgresEventStore


GIVEN_URL = os.environ.get("EVENTPORT_TEST_POSTGRES_URL", "")
LARGEST: Final = 20_000_000
"""How many bytes an append may hold here; 256 MiB would take too much memory."""

ODD: Final = {
    "timezone": "Asia/Kolkata",
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "enable_indexscan": "off",
    "row_security": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Settings of a role, none of which may change what is stored."""


class PostgresHarness(Harness):
    name = "postgres"
    capabilities = Capabilities.only(
        "sessions",
        "global_order",
        "push",
        "shared",
        "durable",
        "guards",
        "conditions",
        "times",
        "catalogue",
        "hooks",
    )
    absent = {
        **dict.fromkeys(
            ("restart", "frozen", "troubles", "read_only"), "the server belongs to others"
        ),
        **dict.fromkeys(("delete_stream", "truncate_stream"), "its events are never removed"),
    }
    server_url: ClassVar[str] = GIVEN_URL
    numbers = count()

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[PostgresEventStore, None]:
        self.schema = f"c_{getpid()}_{next(self.numbers)}"
        async with self.second_client() as store:
            async with bare_connection(self.server_url) as connection:
                self.server = await connection.fetchval(
                    "SELECT 'PostgreSQL ' || current_setting('server_version')"
                )
            with patch("eventport_postgres.arguments.MAX_BYTES", LARGEST):
                yield store
        async with bare_connection(self.server_url) as connection:
            await connection.execute(f"DROP SCHEMA {self.schema} CASCADE")

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[PostgresEventStore, None]:
        async with await PostgresEventStore.connect(self.server_url, schema=self.schema) as store:
            yield store

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[Store, None]:
        async with self.second_client() as store, without_polling(store) as quiet:
            yield quiet

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        return open_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:
        return StreamSnapshotStore(store)

    @asynccontextmanager
    async def using(
        self,
        store: EventStore,
        commits: bool,  # as the hook
    ) -> AsyncGenerator[EventStore, None]:
        assert isinstance(store, PostgresEventStore)
        connection = await asyncpg.connect(self.server_url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            yield store.using(connection)
            await (transaction.commit() if commits else transaction.rollback())
        finally:
            await connection.close()

    def url(self) -> str:
        mark = "&" if "?" in self.server_url else "?"
        return f"{self.server_url}{mark}{urlencode({'schema': self.schema})}"

    def address(self) -> tuple[str, int] | str:
        parts = urlsplit(self.server_url)
        host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
        port = parts.port or 5432
        return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[PostgresEventStore, None]:
        parts = urlsplit(self.server_url)
        user = parts.netloc.rpartition("@")[0]
        query = {key: value for key, value in parse_qs(parts.query).items() if key != "host"}
        there = parts._replace(
            netloc=f"{user}@{host}:{port}", query=urlencode(query, doseq=True)
        ).geturl()
        async with await PostgresEventStore.connect(there, schema=self.schema, timeout=5) as store:
            yield store

    def refused_event(self) -> NewEvent:
        return NewEvent("Large", bytes(LARGEST + 1))

    @asynccontextmanager
    async def slow_clock(self) -> AsyncGenerator[None, None]:
        # The server's clock cannot be set. So what is there gets the times of one that was ahead.
        async with self.admin() as admin:
            await admin.execute(
                f"UPDATE {self.schema}.events SET recorded_at = recorded_at + interval '1 hour'"
            )
        yield

    @asynccontextmanager
    async def odd_client(self) -> AsyncGenerator[PostgresEventStore, None]:
        role = f"odd_{self.schema}"
        parts = urlsplit(self.server_url)
        _, at, host = parts.netloc.rpartition("@")
        url = parts._replace(netloc=f"{role}:odd{at or '@'}{host}").geturl()
        async with self.admin() as admin:
            await admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'odd'")
            for name, value in ODD.items():
                await admin.execute(f"ALTER ROLE {role} SET {name} = {value!r}")
            async with await PostgresEventStore.connect(url, schema=self.schema) as store:
                yield store
            await admin.execute(f"DROP ROLE {role}")

    @asynccontextmanager
    async def admin(self) -> AsyncGenerator[asyncpg.Connection, None]:
        connection = await asyncpg.connect(self.server_url)
        try:
            yield connection
        finally:
            await connection.close()


class OwnServerHarness(PostgresHarness):
    absent = dict.fromkeys(("delete_stream", "truncate_stream"), "its events are never removed")
    running: ClassVar[Server]

    async def restart(self) -> None:
        await to_thread.run_sync(self.running.stop)
        await to_thread.run_sync(self.running.start)

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[None, None]:
        with self.running.frozen():
            yield

    def troubles(self) -> Mapping[str, Callable[[], AbstractAsyncContextManager[None]]]:
        return {
            "refused login": partial(self.during, "ALTER ROLE postgres NOLOGIN", "LOGIN"),
            "lock": self.locked,
            "time-out": partial(self.locked, "1ms"),
            "cancelled": self.cancelled,
        }

    @asynccontextmanager
    async def read_only(self) -> AsyncGenerator[None, None]:
        name = "default_transaction_read_only"
        async with self.admin() as admin:
            await admin.execute(f"SET {name} = off")  # so that this one may undo it
            await admin.execute(f"ALTER SYSTEM SET {name} = on")
            await admin.execute("SELECT pg_reload_conf()")
            await until(partial(self.shows, name, "on"), "the server takes no writes")
            try:
                yield
            finally:
                await admin.execute(f"ALTER SYSTEM RESET {name}")
                await admin.execute("SELECT pg_reload_conf()")
                await until(partial(self.shows, name, "off"), "the server takes writes")

    async def shows(self, name: str, value: str) -> bool:
        async with self.admin() as fresh:
            return bool(await fresh.fetchval("SELECT current_setting($1)", name) == value)

    @asynccontextmanager
    async def during(self, command: str, undone: str) -> AsyncGenerator[None, None]:
        """Run a command at the beginning, and the same with another last word at the end."""
        async with self.admin() as admin:
            await admin.execute(command)
            try:
                yield
            finally:
                await admin.execute(f"{command.rpartition(' ')[0]} {undone}")

    @asynccontextmanager
    async def locked(self, patience: str = "0") -> AsyncGenerator[None, None]:
        """Keep everybody from the table; new connections wait for that long at most."""
        setting = f"ALTER ROLE postgres SET statement_timeout TO '{patience}'"
        async with self.admin() as admin:
            await admin.execute(setting)
            try:
                async with admin.transaction():
                    await admin.execute(f"LOCK TABLE {self.schema}.events")
                    yield
            finally:
                await admin.execute("ALTER ROLE postgres RESET statement_timeout")

    @asynccontextmanager
    async def cancelled(self) -> AsyncGenerator[None, None]:
        """Cancel the statements of others until the block ends."""
        async with self.locked(), self.admin() as admin, anyio.create_task_group() as tasks:

            async def cancel() -> None:
                while True:
                    await admin.execute(
                        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                        "WHERE pid <> pg_backend_pid() AND state = 'active' "
                        "AND query NOT LIKE 'LOCK%'"
                    )
                    await anyio.sleep(0.02)

            tasks.start_soon(cancel)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()


@pytest.fixture(scope="module", autouse=True)
def server() -> Generator[None]:
    if GIVEN_URL:
        yield
        return
    # Nothing here outlives the machine, so nothing has to reach the disk.
    with running_server("fsync = off\n") as OwnServerHarness.running:
        OwnServerHarness.server_url = OwnServerHarness.running.url
        yield


TestPostgres = conformance(PostgresHarness if GIVEN_URL else OwnServerHarness)
