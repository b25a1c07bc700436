"""CAP: what the store claims is what the harness says."""

from __future__ import annotations

from eventport import Capability, NewEvent

from eventport_conformance.capabilities import Supported
from eventport_conformance.clause import clause
from eventport_conformance.trial import Trial


async def _not_claimed(t: Trial, capability: Capability) -> None:
    # The store is used first, so that one that does nothing does not pass.
    result = await t.store.append("order", [NewEvent("Placed", 1)])
    t.equal(result.version, 1, "version after the first append")
    t.true(capability not in t.store.capabilities, f"{capability} is not claimed")


@clause("CAP-01")
async def claims_what_is_declared(t: Trial) -> None:
    """The capabilities that a store claims are those that its harness calls supported."""
    result = await t.store.append("order", [NewEvent("Placed", 1)])
    t.equal(result.version, 1, "version after the first append")
    answers = t.harness.capabilities.answers()
    for capability in Capability:
        t.equal(
            capability in t.store.capabilities,
            isinstance(answers[capability.value], Supported),
            f"whether the store claims {capability.value}, as the harness says",
        )


@clause("CAP-02", unless="push")
async def no_push_is_not_claimed(t: Trial) -> None:
    """A store without push does not claim it."""
    await _not_claimed(t, Capability.PUSH)


@clause("CAP-03", unless="shared")
async def not_shared_is_not_claimed(t: Trial) -> None:
    """A store that cannot be shared does not claim it."""
    await _not_claimed(t, Capability.SHARED)


@clause("CAP-04", unless="durable")
async def not_durable_is_not_claimed(t: Trial) -> None:
    """A store that does not outlive its process does not claim it."""
    await _not_claimed(t, Capability.DURABLE)
