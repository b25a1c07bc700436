"""A store that implements the protocol without the base class is conformant."""

from __future__ import annotations

from eventport_conformance import conformance
from eventport_conformance.proof.judging import harness_of
from eventport_conformance.proof.plain import HumbleStore, PlainStore


class PlainHarness(harness_of(PlainStore)):  # type: ignore[misc]  # made by a function
    backends = ("asyncio", "trio")


TestPlain = conformance(PlainHarness)
TestHumble = conformance(harness_of(HumbleStore))
