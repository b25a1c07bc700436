"""Lets the tests of what is built on the port run on every backend that is there.

A test that asks for `store` or `open_store` runs once for each entry of `BACKENDS`, each time on
an empty store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from os import environ

import pytest

from adapters.mongodb.tests.servers import shared_server
from adapters.postgres.tests.server import server_url
from tests.toolkit.backends import BACKENDS, OpenStore
from tests.toolkit.orders import EVENTS, Order
from tests.toolkit.stages import KINDS, Stage, open_stage

from eventport import EventStore
from eventport.aggregates import Repository
from eventport.snapshots import MemorySnapshotStore, SnapshotStore, StreamSnapshotStore


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


@pytest.fixture(params=KINDS)
async def stage(request: pytest.FixtureRequest) -> AsyncGenerator[Stage, None]:
    async with open_stage(request, request.param) as opened:
        yield opened


@pytest.fixture
def orders(store: EventStore) -> Repository[Order]:
    return Repository(store, "order", Order, EVENTS)


@pytest.fixture(params=["memory", "stream"])
def snapshot_store(request: pytest.FixtureRequest, store: EventStore) -> SnapshotStore:
    kinds: dict[str, Callable[[], SnapshotStore]] = {
        "memory": lambda: MemorySnapshotStore(retention=3),
        "stream": lambda: StreamSnapshotStore(store, retention=3),
    }
    return kinds[request.param]()
