"""Random mutants of the real code are made and judged; the long form is `nox -s mutation`."""

from __future__ import annotations

import ast

from pathlib import Path

import pytest

from conformance.mutation.page import HERE, render
from conformance.mutation.run import PARTS, ROOT, Judge, Usual, explained, key_of
from conformance.mutation.sources import mutants_of, sample


SEED = 4
# Two that are always the same: which ones a seed gives changes with each line of the code.
CHOSEN = (
    ("self._log += stored", "pass"),
    ("positions = range(start, start + count)", "positions = range(start, (start - count))"),
)
DOCS = ROOT / "docs" / "proof.md"

SOURCE = """
LIMIT = 3


def count(values: list[int], *, twice: bool = True) -> int:
    total = 0
    for value in values:
        if value > 0 and not twice:
            total += 1
    _log.warning("counted %d", total)
    return total
"""


def test_the_mutants_of_a_function(tmp_path: Path) -> None:
    path = tmp_path / "counting.py"
    path.write_text(SOURCE)
    changes = {new for _, new in (one.change for one in mutants_of(path))}
    assert changes == {
        "total = 1",
        "if not (value > 0 and (not twice)):",
        "if (value > 0 or not twice):",
        "if (value >= 0) and not twice:",
        "if value > 1 and not twice:",
        "if value > 0 and (twice):",
        "total -= 1",
        "total += 2",
        "pass",
        "return None",
    }


@pytest.mark.parametrize("part", PARTS)
def test_each_mutant_is_another_program(part: str) -> None:
    some = sample(PARTS[part].paths(), 20, SEED)
    assert some == sample(PARTS[part].paths(), 20, SEED)
    for mutant in some:
        assert ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse(mutant.original))


@pytest.mark.parametrize("change", CHOSEN)
def test_a_mutant_of_the_store_in_memory_is_killed(change: tuple[str, str]) -> None:
    made = [one for path in PARTS["memory"].paths() for one in mutants_of(path)]
    (mutant,) = [one for one in made if one.change == change]
    judge = Judge(PARTS["memory"])
    for id_ in ("APP-15", "IDM-13", "CLO-08"):  # what has killed most
        judge.usual["memory", id_] = Usual(1.0, {"engine.py": set(mutant.statement)})
    verdict = judge.judge(mutant)
    assert verdict.killed_by, mutant.diff


def test_what_is_explained_is_a_mutant_that_can_be_made() -> None:
    made = {
        key_of(one) for part in PARTS for path in PARTS[part].paths() for one in mutants_of(path)
    }
    assert not explained().keys() - made


def test_the_page_is_up_to_date() -> None:
    assert DOCS.read_text(encoding="utf-8") == render(), f"run {HERE / 'page.py'}"
