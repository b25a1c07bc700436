"""The store in MongoDB is conformant with each driver, and on a server that stands alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from adapters.mongodb.tests.wire_server import new_database
from pymongo import MongoClient

from eventport.adapter import Store

from eventport_conformance import Capabilities, Harness, conformance
from eventport_conformance.hard import without_polling
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName


class PyMongoHarness(Harness):
    name = "mongodb"
    capabilities = Capabilities.only(
        "sessions", "global_order", "push", "shared", "durable", "hooks"
    )
    absent = {"restart": "covered by a separate test with journaling on"}  # noqa: RUF012  # a constant
    driver: ClassVar[DriverName] = "pymongo"
    server_url: ClassVar[str]
    database_url = ""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[MongoDBEventStore, None]:
        async with new_database(self.server_url) as self.database_url, self.second_client() as one:
            yield one

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[MongoDBEventStore, None]:
        opening = MongoDBEventStore.connect(self.database_url, driver=self.driver)
        async with await opening as store:
            yield store

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[Store, None]:
        async with self.second_client() as store, without_polling(store) as quiet:
            yield quiet

    def url(self) -> str:
        return f"{self.database_url}?driver={self.driver}"

    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.database_url)
        return parts.hostname or "localhost", parts.port or 27017

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[MongoDBEventStore, None]:
        # A replica set reports its members' own addresses, which a direct connection does not ask.
        parts = urlsplit(self.database_url)
        user = parts.netloc.rpartition("@")[0]
        there = parts._replace(
            netloc=f"{user}@{host}:{port}" if user else f"{host}:{port}",
            query="directConnection=true",
        ).geturl()
        async with await MongoDBEventStore.connect(there, driver=self.driver, timeout=5) as store:
            yield store


class MotorHarness(PyMongoHarness):
    name = "mongodb-motor"
    driver = "motor"


class StandaloneHarness(PyMongoHarness):
    name = "mongodb-standalone"
    capabilities = Capabilities.only("global_order", "shared", "durable", "hooks")


@pytest.fixture(scope="module", autouse=True)
def servers(server: str, standalone: str) -> None:
    PyMongoHarness.server_url = server
    StandaloneHarness.server_url = standalone
    for harness in (PyMongoHarness, StandaloneHarness):
        harness.server = name_of_server(harness.server_url)


def name_of_server(url: str) -> str:
    with MongoClient[Any](url) as client:
        info = client.server_info()
    ours = f"SecantusDB {info['secantusVersion']}, as " if "secantusVersion" in info else ""
    return f"{ours}MongoDB {info['version']}"


TestPyMongo = conformance(PyMongoHarness)
TestMotor = conformance(MotorHarness)
TestStandalone = conformance(StandaloneHarness)
