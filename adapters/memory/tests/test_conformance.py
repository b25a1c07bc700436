"""The store in memory is conformant, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from eventport_conformance import Capabilities, Harness, Supported, Unsupported, conformance
from eventport_memory import MemoryEventStore


class MemoryHarness(Harness):
    name = "memory"
    backends = ("asyncio", "trio")
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("there are no commits by other processes"),
        shared=Unsupported("the events live in one object"),
        durable=Unsupported("the events live in memory"),
        hooks=Supported(),
    )
    absent = dict.fromkeys(("address", "open_at", "restart"), "there is no server")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[MemoryEventStore, None]:
        async with await MemoryEventStore.connect() as store:
            yield store


TestMemory = conformance(MemoryHarness)
