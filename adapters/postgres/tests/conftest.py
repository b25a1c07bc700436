"""What the tests of the Postgres store share: a server, a schema for each, a look from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from itertools import count
from os import getpid

import asyncpg
import pytest

from adapters.postgres.tests.read_model import Check, Connection, Model, stored
from adapters.postgres.tests.server import Server, bare_connection, running_server, server_url

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_postgres import PostgresEventStore


_numbers = count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def url() -> Generator[str]:
    with server_url() as found:
        yield found


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    """Run a server that a test may disconnect, kill and restart; nobody else is on it."""
    # What a server has written when it is killed is there, on disk or not; only machines forget it.
    with running_server("fsync = off\n") as running:
        yield running


@pytest.fixture
async def line(server: Server) -> AsyncGenerator[Proxy, None]:
    """Give a proxy in front of that server."""
    async with open_proxy(server.socket) as opened:
        yield opened


@pytest.fixture
def schema() -> str:
    return f"t_{getpid()}_{next(_numbers)}"


@pytest.fixture
async def admin(url: str, schema: str) -> AsyncGenerator[asyncpg.Connection, None]:
    """A bare connection, which also takes the schema away at the end."""
    async with bare_connection(url) as connection:
        yield connection
    async with bare_connection(url) as connection:  # a test may have closed the first one
        await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@pytest.fixture
async def store(
    url: str, schema: str, admin: asyncpg.Connection
) -> AsyncGenerator[PostgresEventStore, None]:
    async with await PostgresEventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def model(schema: str) -> Model:
    return Model(schema)


@pytest.fixture
async def same(
    store: PostgresEventStore, admin: Connection, model: Model
) -> AsyncGenerator[Check, None]:
    """Register the model, and compare what is in it with what is stored; also at the end."""
    await model.create(admin)
    store.inline(model.project)

    async def check() -> int:
        rows = await model.rows(admin)
        assert rows == await stored(store)
        return len(rows)

    yield check
    await check()
