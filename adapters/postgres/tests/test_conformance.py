"""The store in PostgreSQL is conformant."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from os import getpid
from typing import ClassVar
from urllib.parse import urlencode

import asyncpg
import pytest

from eventport_conformance import Capabilities, Harness, Supported, conformance
from eventport_postgres import PostgresEventStore


class PostgresHarness(Harness):
    name = "postgres"
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Supported(),
        shared=Supported(),
        durable=Supported(),
        hooks=Supported(),
    )
    server_url: ClassVar[str] = ""
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

    def url(self) -> str:
        mark = "&" if "?" in self.server_url else "?"
        return f"{self.server_url}{mark}{urlencode({'schema': self.schema})}"


@pytest.fixture(scope="module", autouse=True)
def server(url: str) -> None:
    PostgresHarness.server_url = url


TestPostgres = conformance(PostgresHarness)
