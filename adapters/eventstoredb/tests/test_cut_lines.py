"""Whenever the line is cut, every append is there once, and a subscription misses nothing."""

from __future__ import annotations

import asyncio
import random

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from typing import Final

import pytest

from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT

from eventport import ANY, STREAM_EXISTS, EventStore, Expectation, NewEvent

from eventport_eventstoredb import EventStoreDBEventStore


WRITERS: Final = 4
APPENDS: Final = 12
CUTS: Final = 15


class Line:
    """What lies between a client and a server, and is cut after so many bytes."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._left: int | None = None
        self.cut = asyncio.Event()
        self._opened = 0
        self._silent = 0

    def silence(self) -> None:
        """Pass nothing more on over the connections of this moment, and close none of them."""
        self._silent = self._opened

    def cut_after(self, count: int) -> None:
        self._left = count
        self.cut.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        number = self._opened
        with closing(writer):
            there, back = await asyncio.open_connection("127.0.0.1", self._server)
            with closing(back):
                ends = {writer, back}
                self._ends |= ends
                await asyncio.gather(
                    self._pass(reader, back, number), self._pass(there, writer, number)
                )
                self._ends -= ends

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if number <= self._silent:
                    continue
                if self._left is not None and len(data) >= self._left:
                    sink.write(data[: self._left])
                    self._left = None
                    self.cut.set()
                    for end in self._ends:
                        end.close()
                    return
                if self._left is not None:
                    self._left -= len(data)
                sink.write(data)
        sink.close()


@asynccontextmanager
async def line_to(double: Double) -> AsyncGenerator[tuple[Line, str]]:
    line = Line(double.port)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield line, double.uri.replace(f":{double.port}", f":{port}")
    finally:
        server.close()


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
        asyncio.timeout(60),
        line_to(double) as (line, url),
        await EventStoreDBEventStore.connect(url, timeout=30) as store,
        store.subscribe() as subscription,
    ):

        async def cut() -> None:
            for _ in range(CUTS):
                line.cut_after(chance.randrange(1, 3000))
                await line.cut.wait()

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
