"""What is told about a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from eventport_conformance.harness import Harness
    from eventport_conformance.running import Outcome


def outcome_property(harness: type[Harness], outcome: Outcome) -> dict[str, Any]:
    """Placeholder."""
    return {}
