"""What the older client cannot do is refused, also on servers that can do it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, get_args

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT
from adapters.eventstoredb.tests.double.versions import Version

from eventport import Capability, NewEvent, NotSupportedError, Query

from eventport_conformance.waiting import no_hang
from eventport_eventstoredb import EventStoreDBEventStore


VERSIONS: Final[tuple[Version, ...]] = get_args(Version)


@pytest.fixture(params=VERSIONS)
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with no_hang(), serve(Double(version=request.param)) as served:
        yield served


@pytest.fixture
async def on_server(server: Double) -> AsyncGenerator[EventStoreDBEventStore, None]:
    async with await EventStoreDBEventStore.connect(server.uri, timeout=20) as store:
        yield store


async def test_sessions_depend_on_the_client_and_on_the_server(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    async def write_two() -> None:
        async with on_server.session() as session:
            await session.append("a", [NewEvent("Happened", 1)])
            await session.append("b", [NewEvent("Happened", 2)])

    can = KURRENT and server.rules.sessions
    assert (Capability.SESSIONS in on_server.capabilities) == can
    if can:
        await write_two()
    else:
        with pytest.raises(NotSupportedError, match="kurrentdbclient"):
            await write_two()
    assert (await on_server.read("a")).exists == (await on_server.read("b")).exists == can


async def test_the_rest_is_the_same_with_either_client(on_server: EventStoreDBEventStore) -> None:
    async with on_server.session() as session:
        await session.append("a", [NewEvent("Happened", 1)])
        await session.append("a", [NewEvent("Happened", 2)])
    async with on_server.subscribe(prefix="a") as events:
        assert [(await anext(events)).data for _ in range(2)] == [1, 2]
    for refused in (
        on_server.append("a", [NewEvent("Happened", 3)], unless=Query.all()),
        on_server.streams(),
    ):
        with pytest.raises(NotSupportedError):
            await refused
    many = await on_server.read_many(["a", "missing"])
    assert [one.version for one in many.values()] == [2, 0]
