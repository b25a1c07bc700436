"""What the tests of the EventStoreDB store share: the double, and stores on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT
from adapters.eventstoredb.tests.double.versions import Version

from eventport_conformance.waiting import HANG_SECONDS, no_hang
from eventport_eventstoredb import EventStoreDBEventStore


VERSIONS: Final[tuple[Version, ...]] = (
    ("23.10", "25.1", "26.0", "26.1") if KURRENT else ("23.10", "26.1")
)

# The older client knows no commits over several streams.
collect_ignore = [] if KURRENT else ["test_server_sessions.py"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def double() -> AsyncGenerator[Double, None]:
    async with serve(Double()) as served:
        yield served


@pytest.fixture
async def store(double: Double) -> AsyncGenerator[EventStoreDBEventStore, None]:
    async with await EventStoreDBEventStore.connect(double.uri) as opened:
        yield opened


@pytest.fixture(params=VERSIONS)
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with no_hang(seconds=5 * HANG_SECONDS), serve(Double(version=request.param)) as served:
        yield served


@pytest.fixture
async def on_server(server: Double) -> AsyncGenerator[EventStoreDBEventStore, None]:
    async with await EventStoreDBEventStore.connect(server.uri, timeout=20) as store:
        yield store
