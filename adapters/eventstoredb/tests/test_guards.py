"""What a session expects of streams that it does not write holds at its commit, on KurrentDB."""

from __future__ import annotations

import pytest

from adapters.eventstoredb.tests.at_servers import numbered
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import Capability, ConcurrencyError, NotSupportedError

from eventport_eventstoredb import EventStoreDBEventStore


pytestmark = pytest.mark.skipif(not KURRENT, reason="the older client has no such call")


async def test_names_that_differ_in_case_are_refused() -> None:
    async with (
        serve(Double(version="26.1")) as double,
        await EventStoreDBEventStore.connect(double.uri) as store,
    ):
        assert Capability.GUARDS in store.capabilities

        async def commit() -> None:
            async with store.session() as session:
                await session.require("x-A", "no_stream")
                await session.append("x-a", numbered(1))

        with pytest.raises(NotSupportedError, match="differ in case"):
            await commit()
        assert (await store.read_all()).events == []


async def test_a_checked_stream_that_is_deleted_meanwhile_is_a_conflict() -> None:
    async with (
        serve(Double(version="26.1")) as double,
        await EventStoreDBEventStore.connect(double.uri) as store,
    ):
        await store.append("seen", numbered(1))

        async def commit() -> None:
            async with store.session() as session:
                await session.require("seen", 1)
                await session.append("written", numbered(1))
                double.database.delete("seen", 0)

        with pytest.raises(ConcurrencyError) as caught:
            await commit()
        assert (caught.value.stream, caught.value.actual) == ("seen", 0)
        assert (await store.read("written")).version == 0


async def test_an_older_server_refuses_with_the_reason() -> None:
    async with (
        serve(Double(version="25.1")) as double,
        await EventStoreDBEventStore.connect(double.uri) as store,
    ):
        await store.append("seen", numbered(1))
        with pytest.raises(NotSupportedError, match=r"KurrentDB 26\.1"):
            async with store.session() as session:
                await session.require("seen", 1)
