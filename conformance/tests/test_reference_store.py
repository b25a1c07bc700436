"""A store that implements the protocol without `Store` is conformant."""

from __future__ import annotations

from eventport_conformance import conformance
from eventport_conformance.proof.mutation import harness_of
from eventport_conformance.proof.reference_store import MinimalStore, ReferenceStore


class ReferenceHarness(harness_of(ReferenceStore)):  # type: ignore[misc]  # made by a function
    backends = ("asyncio", "trio")


TestReference = conformance(ReferenceHarness)
TestMinimal = conformance(harness_of(MinimalStore))
