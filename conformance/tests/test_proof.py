"""The suite finds what is wrong: each planted bug, and a store that does nothing."""

from __future__ import annotations

import pytest

import eventport_conformance.proof.planted_oddities  # noqa: F401  # it registers its bugs

from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.harness import Harness
from eventport_conformance.proof.judging import (
    clauses_for,
    harness_of,
    harnesses_of_nothing,
    judge,
)
from eventport_conformance.proof.planted import BUGS, Bug


CLAUSES = {one.id: one for one in all_clauses()}
NOTHING = [
    (harness, clause) for harness in harnesses_of_nothing() for clause in clauses_for(harness)
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert bug.killed_by
    for id_ in bug.killed_by:
        outcome = judge(harness_of(bug.store), CLAUSES[id_])
        assert outcome.result == "failed", f"{id_} does not see it"
        # The bug must be found, not stumbled over.
        assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


def test_there_are_at_least_30_bugs() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 30


@pytest.mark.parametrize(
    ("harness", "clause"), NOTHING, ids=[f"{one.name}-{clause.id}" for one, clause in NOTHING]
)
def test_no_clause_is_true_of_a_store_that_does_nothing(
    harness: type[Harness], clause: Clause
) -> None:
    assert judge(harness, clause).result == "failed"


def test_every_clause_was_tried_on_nothing() -> None:
    tried = {clause.id for _, clause in NOTHING}
    untried = {one.id for one in all_clauses() if not one.uses} - tried
    assert not untried
