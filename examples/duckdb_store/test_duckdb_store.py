"""The DuckDB store is conformant: this is all that its author writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from duckdb_store import DuckDBEventStore

from eventport_conformance import Capabilities, Harness, Supported, Unsupported, conformance


class DuckDBHarness(Harness):
    name = "duckdb"
    backends = ("asyncio",)
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("there are no commits by other processes"),
        shared=Unsupported("DuckDB lets one process open a file"),
        durable=Supported(),
        hooks=Supported(),
    )
    absent = dict.fromkeys(("address", "open_at", "restart"), "DuckDB has no server")
    path = Path()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[DuckDBEventStore, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder, "orders.duckdb")
            async with self.second_client() as store:
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[DuckDBEventStore, None]:
        async with await DuckDBEventStore.connect(f"duckdb:///{self.path}") as store:
            yield store


TestDuckDBStore = conformance(DuckDBHarness)
