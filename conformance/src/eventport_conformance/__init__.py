"""The suite that shows, clause by clause, whether an eventport adapter is right."""

from __future__ import annotations

from eventport_conformance.capabilities import Capabilities, Planned, Supported, Unsupported
from eventport_conformance.harness import Harness
from eventport_conformance.suite import ConformanceTests, conformance
from eventport_conformance.url_harness import UrlHarness


__all__ = [
    "Capabilities",
    "ConformanceTests",
    "Harness",
    "Planned",
    "Supported",
    "Unsupported",
    "UrlHarness",
    "conformance",
]
