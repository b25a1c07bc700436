"""What a harness says of its store: what it can do, and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args


Feature: TypeAlias = Literal[
    "sessions",
    "global_order",
    "push",
    "shared",
    "durable",
    "guards",
    "conditions",
    "times",
    "catalogue",
    "hooks",
]
"""What not every store can do."""

FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)


@dataclass(frozen=True)
class Supported:
    """The store can do it, and passes every clause about it."""


@dataclass(frozen=True)
class Unsupported:
    """The store cannot do it, and passes the clauses about refusing it instead."""

    reason: str = ""
    """Why; shown in the report, and as a footnote in the matrix.

    It may be left out where the store gives a reason itself, in a mapping `limitations` from
    `Capability` to text, as every `eventport.adapter.Store` does.
    """

    def __post_init__(self) -> None:
        if self.reason != "":
            _require_text(self, "reason", self.reason)


@dataclass(frozen=True)
class Planned:
    """The store cannot do it yet: until then, the clauses about it must fail."""

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
    """A subscription is woken by the commits of others, and need not wait until it polls."""
    shared: Answer
    """Several stores, also in several processes, work on the same events."""
    durable: Answer
    """Events outlive the process that appended them."""
    guards: Answer
    """A commit can depend on streams that it does not write."""
    conditions: Answer
    """A commit can depend on what a query matches."""
    times: Answer
    """Copies keep the time at which they were first recorded."""
    catalogue: Answer
    """`streams` lists the streams."""
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
        if self.hooks == Unsupported():
            message = "hooks=Unsupported() needs a reason: no store gives one for its hooks"
            raise ValueError(message)

    @classmethod
    def only(cls, *supported: Feature) -> Capabilities:
        """Name all that a store can do; it cannot do the rest, and says why in its `limitations`.

        Nothing is silently forgotten: a clause compares this with what the store claims.

        Raises:
            ValueError: there is no such feature, or hooks are not among them, for which no store
                gives a reason.
        """
        unknown = set(supported) - set(FEATURES)
        if unknown:
            message = f"there is no {', '.join(sorted(unknown))} among {', '.join(FEATURES)}"
            raise ValueError(message)
        answers: dict[str, Answer] = {
            feature: Supported() if feature in supported else Unsupported() for feature in FEATURES
        }
        return cls(**answers)

    def answers(self) -> Mapping[Feature, Answer]:
        """Return the answer for each feature."""
        return {feature: getattr(self, feature) for feature in FEATURES}


def _require_text(answer: Answer, name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        message = f"{type(answer).__name__} needs its {name} in words, not {value!r}"
        raise ValueError(message)
