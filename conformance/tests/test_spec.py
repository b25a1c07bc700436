"""The specification and the clauses are the same, and each clause is well formed."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventport_conformance.capabilities import FEATURES
from eventport_conformance.clause import GROUPS, Clause, all_clauses, clause
from eventport_conformance.spec import render_spec
from eventport_conformance.trial import Trial


SPEC = Path(__file__).parents[2] / "docs" / "spec.md"


def test_the_page_is_what_the_clauses_say() -> None:
    assert SPEC.read_text(encoding="utf-8") == render_spec(), "run: eventport-conformance spec"


def test_there_are_at_least_150() -> None:
    assert len(all_clauses()) >= 150


def test_every_group_has_clauses_numbered_without_gaps() -> None:
    for group in GROUPS:
        ids = [one.id for one in all_clauses() if one.group == group]
        assert ids == [f"{group}-{number:02}" for number in range(1, len(ids) + 1)]
        assert ids


def test_no_two_tests_of_a_group_have_the_same_name() -> None:
    names = [(one.group, getattr(one.body, "__name__", "")) for one in all_clauses()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("one", all_clauses(), ids=lambda one: one.id)
def test_a_clause_is_one_sentence(one: Clause) -> None:
    assert one.sentence[0].isupper() or one.sentence[0] == "`"
    assert ". " not in one.sentence


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_has_a_clause_about_refusing_it(feature: str) -> None:
    assert [one for one in all_clauses() if one.unless == feature]


async def _body(t: Trial) -> None:
    """It holds."""


async def _silent(t: Trial) -> None:
    t.true(held=True, what="nothing")


def test_an_id_is_used_once() -> None:
    with pytest.raises(ValueError, match="two clauses VER-01"):
        clause("VER-01")(_body)


def test_an_id_has_a_group_and_two_digits() -> None:
    for wrong in ("XXX-01", "VER-1", "VER01", "ver-01"):
        with pytest.raises(ValueError, match="no id"):
            clause(wrong)(_body)


def test_a_clause_needs_its_sentence() -> None:
    with pytest.raises(ValueError, match="needs a docstring"):
        clause("VER-99")(_silent)
