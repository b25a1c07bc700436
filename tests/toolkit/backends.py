"""The backends that the tests of what is built on the port run on.

A backend is added by one entry of `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from os import getpid
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.mongodb.tests.servers import new_database

from eventport import EventStore, connect

from eventport_conformance.waiting import HANG_SECONDS


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

WITH_CONDITIONS: Final = sorted(name for name in BACKENDS if not name.startswith("eventstoredb"))
"""The backends that check what a query matches."""

WITH_CATALOGUE: Final = sorted(name for name in BACKENDS if not name.startswith("eventstoredb"))
"""Those that list their streams."""

with_sessions = pytest.mark.parametrize("backend", WITH_SESSIONS)
with_conditions = pytest.mark.parametrize("backend", WITH_CONDITIONS)
without_sessions = pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - set(WITH_SESSIONS)))
