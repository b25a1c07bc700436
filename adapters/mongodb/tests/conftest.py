"""What the tests of the MongoDB store share: servers, databases, stores, and raw collections."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from adapters.mongodb.tests.wire_server import WireServer, new_database
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from eventport_mongodb import MongoDBEventStore


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """Give the URL of a server with transactions and change streams."""
    if url := os.environ.get("EVENTPORT_TEST_MONGODB_URL"):
        yield url
        return
    started = WireServer(tmp_path_factory.mktemp("replica-set"), "--enable-test-commands")
    started.start()
    yield started.url
    started.kill()


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """Give the URL of a server that is in no replica set."""
    started = WireServer(tmp_path_factory.mktemp("standalone"), "--standalone")
    started.start()
    yield started.url
    started.kill()


@pytest.fixture
async def url(server: str) -> AsyncGenerator[str, None]:
    """Give the URL of an empty database."""
    async with new_database(server) as url_:
        yield url_


@pytest.fixture
async def store(url: str) -> AsyncGenerator[MongoDBEventStore, None]:
    async with await MongoDBEventStore.connect(url) as opened:
        yield opened


@pytest.fixture
async def raw(url: str) -> AsyncGenerator[AsyncCollection[dict[str, Any]], None]:
    """Give the collection itself, through a client of its own."""
    async with AsyncMongoClient[dict[str, Any]](url, uuidRepresentation="standard") as client:
        yield client.get_default_database()["events"]
