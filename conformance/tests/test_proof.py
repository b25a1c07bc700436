"""Each mutant fails the clauses that should find it, and the no-op store fails every clause."""

from __future__ import annotations

import pytest

from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.harness import Harness
from eventport_conformance.proof.mutants.base import Mutant
from eventport_conformance.proof.mutation import (
    all_mutants,
    clauses_for,
    harness_of,
    judge,
    noop_harnesses,
)


CLAUSES = {one.id: one for one in all_clauses()}
NOOP = [(harness, clause) for harness in noop_harnesses() for clause in clauses_for(harness)]


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    assert mutant.killed_by
    for id_ in mutant.killed_by:
        outcome = judge(harness_of(mutant.store), CLAUSES[id_])
        assert outcome.result == "failed", f"{id_} does not see it"
        # The bug must be found, not stumbled over.
        assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


def test_no_mutant_is_lost() -> None:
    names = {mutant.name for mutant in all_mutants()}
    assert len(names) == len(all_mutants()) >= 134


@pytest.mark.parametrize(
    ("harness", "clause"), NOOP, ids=[f"{one.name}-{clause.id}" for one, clause in NOOP]
)
def test_the_noop_store_fails(harness: type[Harness], clause: Clause) -> None:
    assert judge(harness, clause).result == "failed"


def test_the_noop_store_was_tried_on_every_clause() -> None:
    tried = {clause.id for _, clause in NOOP}
    untried = {one.id for one in all_clauses() if not one.uses} - tried
    assert not untried
