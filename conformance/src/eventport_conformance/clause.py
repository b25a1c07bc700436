"""What a clause is, where the clauses are kept, and which of them apply to a store."""

from __future__ import annotations

import pkgutil
import re

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from eventport_conformance.capabilities import Answer, Feature, Planned, Supported, Unsupported
from eventport_conformance.harness import Hook


if TYPE_CHECKING:
    from eventport_conformance.trial import Trial


Body: TypeAlias = Callable[["Trial"], Awaitable[None]]

GROUPS: Final = {
    "CAP": "Capabilities",
    "VER": "Versions",
    "EXP": "Expectations",
    "APP": "Append",
    "IDM": "Idempotent retry",
    "REA": "Read",
    "ITR": "Iterate",
    "AGG": "Aggregate",
    "MNY": "Many streams at once",
    "GLO": "Global order",
    "SUB": "Subscribe",
    "SES": "Sessions",
    "QRY": "Queries",
    "GRD": "Conditions",
    "CAT": "Lists of streams",
    "HOK": "After-commit hooks",
    "DAT": "Data",
    "TAG": "Tags",
    "CPY": "Copies",
    "NAM": "Names",
    "ARG": "Bad arguments",
    "SIZ": "Size",
    "CON": "Concurrency",
    "CAN": "Cancellation",
    "SHA": "Several stores on the same events",
    "ODD": "Odd names and types, and what others do",
    "DUR": "Durability",
    "FLT": "Lost connections",
    "CLO": "Closing",
    "ELS": "Other event loops and processes",
    "CKP": "Checkpoint stores",
    "SNP": "Snapshot stores",
    "INL": "Inline handlers",
    "USE": "Stores in a transaction of the caller's",
    "MOD": "Against a model",
}
"""The first part of a clause's id, and what it is about; in the order of the specification."""

_ID: Final = re.compile(r"(?P<group>[A-Z]{3})-\d\d")
_clauses: Final[dict[str, Clause]] = {}


@dataclass(frozen=True)
class Clause:
    """One sentence that is true of every conformant store, and its test."""

    id: str
    sentence: str
    body: Body
    needs: tuple[Feature, ...]
    """It applies only to stores that can do these."""
    unless: Feature | None
    """It is about refusing this: it applies only to stores that cannot do it."""
    uses: tuple[Hook, ...]
    """The harness must have these, for the test to be made."""
    seconds: float
    """How long the test may take, before it counts as hanging."""

    @property
    def group(self) -> str:
        """The first part of the id."""
        return self.id.partition("-")[0]

    @property
    def test_name(self) -> str:
        """How pytest calls it."""
        return f"test_{self.id.replace('-', '_')}_{getattr(self.body, '__name__', 'clause')}"


def clause(
    id_: str,
    *,
    needs: tuple[Feature, ...] = (),
    unless: Feature | None = None,
    uses: tuple[Hook, ...] = (),
    seconds: float = 300.0,
) -> Callable[[Body], Body]:
    """Register an async function as the test of a clause; its docstring is the clause."""

    def register(body: Body) -> Body:
        match = _ID.fullmatch(id_)
        if match is None or match["group"] not in GROUPS:
            message = f"{id_!r} is no id of a clause"
            raise ValueError(message)
        if id_ in _clauses:
            message = f"there are two clauses {id_}"
            raise ValueError(message)
        sentence = " ".join((body.__doc__ or "").split())
        if not sentence.endswith("."):
            message = f"{id_} needs a docstring: the sentence that has to be true"
            raise ValueError(message)
        _clauses[id_] = Clause(id_, sentence, body, needs, unless, uses, seconds)
        return body

    return register


@cache
def all_clauses() -> tuple[Clause, ...]:
    """Return all clauses, in the order of the specification."""
    package = import_module("eventport_conformance.clauses")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    groups = list(GROUPS)
    return tuple(sorted(_clauses.values(), key=lambda one: (groups.index(one.group), one.id)))


@dataclass(frozen=True)
class Runs:
    """The store has to pass the clause."""


@dataclass(frozen=True)
class MustFail:
    """The store does not claim it yet: if it passes, the harness is out of date."""

    issue: str


@dataclass(frozen=True)
class Answered:
    """The harness has said why it does not apply."""

    kind: Literal["unsupported", "absent"]
    reason: str


Applies: TypeAlias = Runs | MustFail | Answered


def applies(
    one: Clause, answers: Mapping[Feature, Answer], absent: Mapping[Hook, str]
) -> Applies | None:
    """Return what a clause means for a store; None if it refuses what the store can do."""
    if one.unless is not None and isinstance(answers[one.unless], Supported):
        return None
    needed: Collection[Answer] = [answers[feature] for feature in one.needs]
    for answer in needed:
        if isinstance(answer, Unsupported):
            return Answered("unsupported", answer.reason)
    for hook in one.uses:
        if hook in absent:
            return Answered("absent", absent[hook])
    for answer in needed:
        if isinstance(answer, Planned):
            return MustFail(answer.issue)
    return Runs()
