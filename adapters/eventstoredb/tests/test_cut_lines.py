"""Whenever the connection drops, every append is there once, and a subscription misses nothing."""

from __future__ import annotations

import asyncio
import random

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import ANY, STREAM_EXISTS, EventStore, Expectation, NewEvent

from eventport_conformance.proxy import Direction, Proxy, open_proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_eventstoredb import EventStoreDBEventStore


WRITERS: Final = 4
APPENDS: Final = 12
CUTS: Final = 15
DIRECTIONS: Final[tuple[Direction, ...]] = ("to_server", "to_client")


@asynccontextmanager
async def proxy_to(double: Double) -> AsyncGenerator[tuple[Proxy, str]]:
    async with open_proxy(("127.0.0.1", double.port)) as proxy:
        yield proxy, double.uri.replace(f":{double.port}", f":{proxy.port}")


async def write(store: EventStore, stream: str) -> list[str]:
    """Append in each way by turns, and return what was acknowledged."""
    version, written = 0, list[str]()
    for number in range(APPENDS):
        events = [NewEvent("A", f"{stream} {number} {part}") for part in range(number % 3 + 1)]
        ways: tuple[Expectation, ...] = (version, ANY, STREAM_EXISTS)
        expected = ways[number % 3]
        if KURRENT and number % 4 == 3:
            async with store.session() as session:
                await session.append(stream, events)
                await session.append(f"{stream}-beside", [NewEvent("B", number)])
        else:
            result = await store.append(stream, events, expected=expected)
            assert result.version == version + len(events)
        version += len(events)
        written += [str(event.data) for event in events]
    return written


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_doubled_or_wrongly_refused(double: Double, seed: int) -> None:
    # Only the adapter may tell what has been written: the server forgets ids at once.
    double.remembered_ids = 0
    double.reset()
    double.attend()
    chance = random.Random(seed)
    streams = [f"stream-{number}" for number in range(WRITERS)]
    told: list[str] = []
    async with (
        no_hang(),
        proxy_to(double) as (proxy, url),
        await EventStoreDBEventStore.connect(url, timeout=HANG_SECONDS) as store,
        store.subscribe() as subscription,
    ):

        async def cut() -> None:
            for _ in range(CUTS):
                cuts = proxy.cuts
                proxy.cut_after(chance.randrange(1, 3000), chance.choice(DIRECTIONS))
                await until(lambda wanted=cuts + 1: proxy.cuts == wanted, "bytes pass")  # type: ignore[misc]  # one a turn

        async def listen() -> None:
            async for event in subscription:
                if event.type == "End":
                    return
                told.append(f"{event.stream}/{event.version}")

        async with asyncio.TaskGroup() as tasks:
            cutter = tasks.create_task(cut())
            tasks.create_task(listen())
            written = await asyncio.gather(*(write(store, stream) for stream in streams))
            cutter.cancel()
            stored = [event async for event in store.iterate_all()]
            await store.append("end", [NewEvent("End", None)])
    for stream, expected in zip(streams, written, strict=True):
        assert [event.data for event in stored if event.stream == stream] == expected
    assert told == [f"{event.stream}/{event.version}" for event in stored]
