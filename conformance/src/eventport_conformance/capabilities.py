"""What a harness says of its store: what it can do, and why it cannot do the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args


Feature: TypeAlias = Literal["sessions", "global_order", "push", "shared", "durable", "hooks"]
"""What not every store can do."""

FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)


@dataclass(frozen=True)
class Supported:
    """The store can do it: every clause about it has to hold."""


@dataclass(frozen=True)
class Unsupported:
    """The store cannot do it: clauses about refusing it have to hold instead."""

    reason: str
    """Why; it stands in the report, and as a footnote in the matrix."""

    def __post_init__(self) -> None:
        _require_text(self, "reason", self.reason)


@dataclass(frozen=True)
class Planned:
    """The store cannot do it yet: as long as it says so, the clauses about it must fail."""

    issue: str
    """Where the work on it can be followed."""

    def __post_init__(self) -> None:
        _require_text(self, "issue", self.issue)


Answer: TypeAlias = Supported | Unsupported | Planned


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """An answer for each feature. None has a default, so that none is forgotten."""

    sessions: Answer
    """A session writes several streams in one atomic commit."""
    global_order: Answer
    """`read_all`, `iterate_all` and `subscribe` work."""
    push: Answer
    """A subscription is woken by the commits of others, and need not wait until it looks again."""
    shared: Answer
    """Several stores, also in several processes, work on the same events."""
    durable: Answer
    """Events outlive the process that appended them."""
    hooks: Answer
    """The store has `after_commit`."""

    def __post_init__(self) -> None:
        for feature, answer in self.answers().items():
            if not isinstance(answer, Supported | Unsupported | Planned):
                message = (
                    f"{feature} must be Supported(), Unsupported(reason) or Planned(issue), "
                    f"not {answer!r}"
                )
                raise TypeError(message)

    def answers(self) -> Mapping[Feature, Answer]:
        """Return the answer for each feature."""
        return {feature: getattr(self, feature) for feature in FEATURES}


def _require_text(answer: Answer, name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        message = f"{type(answer).__name__} needs its {name} in words, not {value!r}"
        raise ValueError(message)
