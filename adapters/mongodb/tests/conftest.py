"""What the tests of the MongoDB store share: servers, databases, stores, and raw collections."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from adapters.mongodb.tests.processes import WORKERS
from adapters.mongodb.tests.servers import (
    URL_VARIABLE,
    exclusive,
    mongod,
    new_database,
    shared_server,
    with_options,
)
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.scripts import Start, scripts
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


FAILING = f"failing-{os.getpid()}"
"""The name of clients that a failpoint is for."""

needs_mongod: Final = pytest.mark.skipif(
    mongod() is None,
    reason="there is no wheel with a mongod for this platform, and none on the PATH; "
    "what stands in for it has no such sets, faults or journals",
)
"""Marks tests that the wire server cannot run; nothing else may be a reason to leave them out."""

drops_refused_sockets: Final = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
"""Marks tests in which servers refuse Motor: PyMongo's blocking client leaves such sockets open."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that all processes of this run of the tests share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Generator[str, None, None]:
    """Give the URL of a server with transactions and change streams."""
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    with shared_server(run_folder) as started:
        yield started


@pytest.fixture(scope="session")
def standalone(run_folder: Path) -> Generator[str, None, None]:
    """Give the URL of a server that is in no replica set."""
    with shared_server(run_folder, replicated=False) as started:
        yield started


@pytest.fixture
async def url(server: str) -> AsyncGenerator[str, None]:
    """Give the URL of an empty database."""
    async with new_database(server) as url_:
        yield url_


@pytest.fixture(params=["pymongo", "motor"])
def driver(request: pytest.FixtureRequest) -> DriverName:
    name: DriverName = request.param
    return name


@pytest.fixture
async def proxy(url: str) -> AsyncGenerator[Proxy, None]:
    port = urlsplit(url).port
    assert port is not None
    async with open_proxy(("127.0.0.1", port)) as opened:
        yield opened


@pytest.fixture
async def store(url: str) -> AsyncGenerator[MongoDBEventStore, None]:
    async with await MongoDBEventStore.connect(url) as opened:
        yield opened


@pytest.fixture
async def raw(url: str) -> AsyncGenerator[AsyncCollection[dict[str, Any]], None]:
    """Give the collection itself, through a client of its own."""
    # Before 5.0 servers do not wait for a majority unless asked to, and we read what one has.
    place = with_options(url, w="majority", uuidRepresentation="standard")
    async with AsyncMongoClient[dict[str, Any]](place) as client:
        yield client.get_default_database()["events"]


@pytest.fixture
async def fail(
    raw: AsyncCollection[dict[str, Any]], run_folder: Path
) -> AsyncGenerator[Callable[..., Any], None]:
    """Let the server itself fail at commands, as it does while it steps down or is overloaded.

    Only clients that call themselves `FAILING` in their URL meet it.
    """
    admin = raw.database.client.admin

    async def arm(commands: list[str], times: int, **what: Any) -> None:
        data = {"failCommands": commands, "appName": FAILING, **what}
        await admin.command(
            {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        )

    # A server has only one of these.
    with exclusive(run_folder / "failing"):
        yield arm
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.fixture
def start() -> Generator[Start, None, None]:
    """Start another process."""
    with scripts(WORKERS) as start_:
        yield start_
