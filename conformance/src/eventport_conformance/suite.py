"""From a harness to a class of tests that pytest collects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from eventport_conformance.clause import Clause, MustFail, Runs, all_clauses, applies
from eventport_conformance.harness import Harness, absent_hooks, check_harness
from eventport_conformance.plugin import KEY


if TYPE_CHECKING:
    from eventport_conformance.harness import Backend


class ConformanceTests:
    """The base of the classes that `conformance` makes: one test for each clause that applies."""

    harness: ClassVar[type[Harness]]


def conformance(harness: type[Harness]) -> type[ConformanceTests]:
    """Make the tests for a store.

    Give the class a name that pytest collects: ``TestMyDb = conformance(MyHarness)``, or derive
    from it. The tests are plain functions that start the event loop themselves, so they get on
    with every plugin for async tests.

    Args:
        harness: Opens the store and says what it can do.

    Raises:
        TypeError: the harness leaves something open.
    """
    check_harness(harness)
    answers, absent = harness.capabilities.answers(), absent_hooks(harness)
    namespace: dict[str, Any] = {"harness": harness, "__doc__": f"Clauses for {harness.name}."}
    for clause in all_clauses():
        match applies(clause, answers, absent):
            case Runs():
                namespace[clause.test_name] = _test(harness, clause, None)
            case MustFail() as must_fail:
                namespace[clause.test_name] = _test(harness, clause, must_fail)
            case _:
                pass  # the answer is in the report
    return type(f"Conformance of {harness.name}", (ConformanceTests,), namespace)


def _test(
    harness: type[Harness], clause: Clause, must_fail: MustFail | None
) -> Callable[..., None]:
    @pytest.mark.parametrize("backend", harness.backends)
    def test(self: object, backend: Backend, request: pytest.FixtureRequest) -> None:  # noqa: ARG001  # a method
        from eventport_conformance.report import outcome_property  # noqa: PLC0415  # cheap import
        from eventport_conformance.running import not_run, run_clause  # noqa: PLC0415  # as above

        seed: int = request.config.option.conformance_seed
        try:
            outcome = run_clause(harness, clause, backend, seed=seed, must_fail=must_fail)
        except (pytest.skip.Exception, pytest.xfail.Exception) as exc:
            outcome = not_run(clause, backend, f"the harness leaves it out: {exc}")
        request.node.user_properties.append((KEY, outcome_property(harness, outcome)))
        if outcome.result in {"failed", "not-run"}:
            alone = f"  Alone:     pytest '{request.node.nodeid}' --conformance-seed={seed}"
            pytest.fail(f"{outcome.details}\n{alone}", pytrace=False)

    test.__name__ = clause.test_name
    test.__qualname__ = clause.test_name
    test.__doc__ = clause.sentence
    return test
