"""The store in PostgreSQL is conformant."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from itertools import count
from os import getpid
from typing import ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest

from anyio import to_thread
from server import Server, running_server

from eventport.adapter import Store

from eventport_conformance import Capabilities, Harness, conformance
from eventport_conformance.hard import without_polling
from eventport_postgres import PostgresEventStore


GIVEN_URL = os.environ.get("EVENTPORT_TEST_POSTGRES_URL", "")


class PostgresHarness(Harness):
    name = "postgres"
    capabilities = Capabilities.only(
        "sessions", "global_order", "push", "shared", "durable", "guards", "hooks"
    )
    absent = {"restart": "the server belongs to others"}  # a constant
    server_url: ClassVar[str] = GIVEN_URL
    numbers = count()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[PostgresEventStore, None]:
        self.schema = f"c_{getpid()}_{next(self.numbers)}"
        async with self.second_client() as store:
            connection = await asyncpg.connect(self.server_url)
            self.server = await connection.fetchval(
                "SELECT 'PostgreSQL ' || current_setting('server_version')"
            )
            await connection.close()
            yield store
        connection = await asyncpg.connect(self.server_url)
        await connection.execute(f"DROP SCHEMA {self.schema} CASCADE")
        await connection.close()

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[PostgresEventStore, None]:
        async with await PostgresEventStore.connect(self.server_url, schema=self.schema) as store:
            yield store

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[Store, None]:
        async with self.second_client() as store, without_polling(store) as quiet:
            yield quiet

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


class OwnServerHarness(PostgresHarness):
    absent = {}  # as above
    running: ClassVar[Server]

    async def restart(self) -> None:
        await to_thread.run_sync(self.running.stop)
        await to_thread.run_sync(self.running.start)


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
