"""What the tests of the EventStoreDB store share: the double, and stores on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport_eventstoredb import EventStoreDBEventStore


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
