"""The file store is conformant: this is all that its author writes."""

from __future__ import annotations

from file_store import ADAPTER

from eventport_conformance import Capabilities, UrlHarness, conformance


class FileHarness(UrlHarness):
    name, location = "file", "file:///{folder}/orders.events"
    capabilities = Capabilities.only("sessions", "global_order", "durable", "times", "hooks")
    backends = ("asyncio", "trio")
    adapter = ADAPTER
    absent = dict.fromkeys(
        ("url", "address", "open_at", "restart"), "an example is not installed, and has no server"
    )


TestFileStore = conformance(FileHarness)
