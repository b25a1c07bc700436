"""The DuckDB store is conformant: this is all that its author writes."""

from __future__ import annotations

from duckdb_store import DuckDBEventStore

from eventport.adapter import Adapter

from eventport_conformance import Capabilities, UrlHarness, conformance


class DuckDBHarness(UrlHarness):
    name, location = "duckdb", "duckdb:///{folder}/orders.duckdb"
    capabilities = Capabilities.only("sessions", "global_order", "durable", "hooks")
    adapter = Adapter(open=DuckDBEventStore.connect)
    absent = dict.fromkeys(
        ("url", "address", "open_at", "restart"), "an example is not installed, and has no server"
    )


TestDuckDBStore = conformance(DuckDBHarness)
