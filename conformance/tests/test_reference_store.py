"""A store that implements the protocol without `Store` is conformant."""

from __future__ import annotations

from eventport_conformance import conformance
from eventport_conformance.proof.mutation import harness_of
from eventport_conformance.proof.reference_store import MinimalStore, ReferenceStore


TestReference = conformance(harness_of(ReferenceStore))
TestMinimal = conformance(harness_of(MinimalStore))
