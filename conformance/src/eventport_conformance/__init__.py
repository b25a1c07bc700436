"""The suite that proves an eventport adapter right, clause by clause."""

from __future__ import annotations

from eventport_conformance.capabilities import Capabilities, Planned, Supported, Unsupported
from eventport_conformance.harness import Harness
from eventport_conformance.suite import ConformanceTests, conformance


__all__ = [
    "Capabilities",
    "ConformanceTests",
    "Harness",
    "Planned",
    "Supported",
    "Unsupported",
    "conformance",
]
