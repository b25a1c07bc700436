"""The clauses about what is built on the port pass where all is right, and find planted bugs."""

from __future__ import annotations

import pytest

from conformance.tests.toolkit_mutants import MUTANTS, InStreams, Right
from conformance.tests.transaction_mutants import Joining

from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.harness import Harness
from eventport_conformance.proof.mutation import judge
from eventport_conformance.running import run_clause


CLAUSES = {one.id: one for one in all_clauses()}
OURS = [one for one in CLAUSES.values() if one.group in {"CKP", "SNP", "INL", "USE"}]

RIGHT: list[tuple[type[Harness], Clause]] = [
    *((Right, one) for one in OURS if one.group != "USE"),
    *((InStreams, one) for one in OURS if one.group == "CKP"),
    *((Joining, one) for one in OURS if one.group == "USE"),
]


@pytest.mark.parametrize(
    ("harness", "clause"), RIGHT, ids=[f"{one.__name__}-{clause.id}" for one, clause in RIGHT]
)
def test_what_is_right_passes(harness: type[Harness], clause: Clause) -> None:
    outcome = run_clause(harness, clause, "asyncio")
    assert outcome.result == "held", outcome.details


@pytest.mark.parametrize(
    ("harness", "id_"), MUTANTS, ids=[f"{one.__name__}-{id_}" for one, id_ in MUTANTS]
)
def test_a_mutant_is_killed(harness: type[Harness], id_: str) -> None:
    outcome = judge(harness, CLAUSES[id_])
    assert outcome.result == "failed", f"{id_} does not see it"
    # The bug must be found, not stumbled over.
    assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


def test_each_clause_has_a_mutant() -> None:
    assert {one.id for one in OURS} <= {id_ for _, id_ in MUTANTS}
