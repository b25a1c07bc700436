"""Lets the tests of what is built on the port run on every backend that is there.

A test that asks for `store` or `open_store` runs once for each entry of `BACKENDS`, each time on
an empty store. A backend is added by one entry.
"""

from __future__ import annotations

import sys

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from os import environ, getpid
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.mongodb.tests.servers import new_database, shared_server

from eventport import EventStore, connect

from eventport_conformance.waiting import HANG_SECONDS


sys.path.insert(0, str(Path(__file__).parents[2] / "adapters/postgres/tests"))

from server import server_url  # see above


OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[EventStore]]
"""Opens one more store on the events of the test, as another process would."""

Backend: TypeAlias = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[OpenStore]]
"""Provides an empty place for events, and how to open stores on it."""

_numbers: Final = count()


@asynccontextmanager
async def memory(_: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    """The events live in the store, so that every store of a test is the same one."""
    async with connect("memory://") as store:

        @asynccontextmanager
        async def open_again() -> AsyncGenerator[EventStore, None]:
            yield store

        yield open_again


@asynccontextmanager
async def sqlite(request: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    folder: Path = request.getfixturevalue("tmp_path")

    @asynccontextmanager
    async def open_file() -> AsyncGenerator[EventStore, None]:
        async with connect(f"sqlite:///{folder / 'events.db'}") as store:
            yield store

    yield open_file


@asynccontextmanager
async def postgres(request: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    url: str = request.getfixturevalue("postgres_url")
    schema = f"toolkit_{getpid()}_{next(_numbers)}"

    @asynccontextmanager
    async def open_schema() -> AsyncGenerator[EventStore, None]:
        async with connect(url, schema=schema, timeout=HANG_SECONDS) as store:
            yield store

    yield open_schema


@asynccontextmanager
async def mongodb(request: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    server: str = request.getfixturevalue("mongodb_url")
    async with new_database(server) as url:

        @asynccontextmanager
        async def open_database() -> AsyncGenerator[EventStore, None]:
            async with connect(url, timeout=HANG_SECONDS) as store:
                yield store

        yield open_database


@asynccontextmanager
async def eventstoredb(_: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    async with serve(Double()) as double:
        yield _client_of(double)


@asynccontextmanager
async def eventstoredb_24(_: pytest.FixtureRequest) -> AsyncGenerator[OpenStore, None]:
    """It has no sessions over several streams."""
    async with serve(Double("23.10")) as double:
        yield _client_of(double)


def _client_of(double: Double) -> OpenStore:
    @asynccontextmanager
    async def open_client() -> AsyncGenerator[EventStore, None]:
        async with connect(double.uri, timeout=HANG_SECONDS) as store:
            yield store

    return open_client


BACKENDS: Final[dict[str, Backend]] = {
    "memory": memory,
    "sqlite": sqlite,
    "postgres": postgres,
    "mongodb": mongodb,
    "eventstoredb": eventstoredb,
    "eventstoredb-23.10": eventstoredb_24,
}

WITH_SESSIONS: Final = sorted(BACKENDS.keys() - {"eventstoredb-23.10"})
"""The backends that commit several streams at once; of the others, see that they refuse to."""

WITH_CATALOGUE: Final = sorted(name for name in BACKENDS if not name.startswith("eventstoredb"))
"""Those that list their streams."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def _one_loop(anyio_backend: str) -> AsyncGenerator[None, None]:
    """Keep the event loop of a module: gRPC stumbles now and then when each test has its own."""
    yield  # noqa: PT022  # an async fixture that only returns would not keep it


@pytest.fixture(scope="session")
def postgres_url() -> Generator[str]:
    with server_url() as url:
        yield url


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    folder = tmp_path_factory.getbasetemp()
    with shared_server(folder.parent if "PYTEST_XDIST_WORKER" in environ else folder) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the backend that the test runs on."""
    name: str = request.param
    return name


@pytest.fixture
async def open_store(
    request: pytest.FixtureRequest, backend: str
) -> AsyncGenerator[OpenStore, None]:
    async with BACKENDS[backend](request) as opened:
        yield opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncGenerator[EventStore, None]:
    async with open_store() as opened:
        yield opened
