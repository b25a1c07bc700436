"""The file store is conformant: this is all that its author writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from file_store import FileEventStore

from eventport_conformance import Capabilities, Harness, Supported, Unsupported, conformance


class FileHarness(Harness):
    name = "file"
    backends = ("asyncio", "trio")
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("there are no commits by other processes"),
        shared=Unsupported("one process holds the file"),
        durable=Supported(),
        hooks=Supported(),
    )
    absent = dict.fromkeys(("address", "open_at", "restart"), "a file has no server")
    path = Path()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[FileEventStore, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder, "orders.events")
            async with self.second_client() as store:
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[FileEventStore, None]:
        async with await FileEventStore.connect(f"file:///{self.path}") as store:
            yield store


TestFileStore = conformance(FileHarness)
