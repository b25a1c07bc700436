"""What the tests of gates share: a store in memory, on both event loops."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.toolkit.staged import Staged

from eventport import EventStore, connect


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
async def store() -> AsyncGenerator[EventStore, None]:
    async with connect("memory://") as opened:
        yield opened


@pytest.fixture
def staged(store: EventStore) -> Staged:
    return Staged(store)
