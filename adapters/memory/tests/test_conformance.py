"""The store in memory is conformant, on asyncio and on trio."""

from __future__ import annotations

from eventport_conformance import Capabilities, UrlHarness, conformance


class MemoryHarness(UrlHarness):
    name, location = "memory", "memory://"
    capabilities = Capabilities.only("sessions", "global_order", "guards", "hooks")
    backends = ("asyncio", "trio")
    absent = dict.fromkeys(("address", "open_at", "restart"), "there is no server")


TestMemory = conformance(MemoryHarness)
