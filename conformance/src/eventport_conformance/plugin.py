"""The pytest plugin: it gathers results from all processes and computes the verdicts.

Nothing of the suite is imported before there is something to report, because pytest imports this
module wherever the distribution is installed.
"""

from __future__ import annotations

import time

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest


if TYPE_CHECKING:
    from eventport_conformance.harness import Harness
    from eventport_conformance.report import Results, StoreReport


KEY: Final = "eventport_conformance"
"""Under this name results travel: in the reports of tests, and from workers of pytest-xdist."""

SHOWN: Final = 10
"""How many missing clauses of a store are shown."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("eventport-conformance")
    group.addoption(
        "--conformance-report",
        metavar="FILE",
        type=Path,
        help="write the results of the conformance suite to this file, as JSON",
    )
    group.addoption(
        "--conformance-require",
        metavar="NAMES",
        default="",
        help="fail unless each of these stores, with commas between them, is conformant",
    )
    group.addoption(
        "--conformance-seed",
        metavar="NUMBER",
        type=int,
        default=0,
        help="the seed of all that is random in the conformance suite (default: 0)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Gather in this process, or, as a worker of pytest-xdist, for the process that asks."""
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    config.pluginmanager.register(_Verdicts(config) if output is None else _Worker(output))


class _Worker:
    """Reports to the controller which stores there are tests for."""

    def __init__(self, output: dict[str, Any]) -> None:
        self._output = output

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        self._output[KEY] = _subjects(items)


class _Verdicts:
    """Computes a verdict for each store, in the one process that hears of every result."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started = time.monotonic()
        self._stores: dict[str, Results] = {}
        self._reports: list[StoreReport] = []
        self._lacking: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        # First, so that what others deselect is known to be missing.
        for subject in _subjects(items):
            self._results(subject)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for subject in getattr(node, "workeroutput", {}).get(KEY, ()):
            self._results(subject)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for key, value in report.user_properties:
            if key == KEY and isinstance(value, dict):
                from eventport_conformance.report import ClauseResult  # noqa: PLC0415  # as above

                result = ClauseResult(**value["result"])
                self._results(value["subject"]).add(
                    result, value["adapter"], value["server"], value["limitations"]
                )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        options = self._config.option
        self._reports = [results.report() for _, results in sorted(self._stores.items())]
        if options.conformance_report is not None:
            from eventport_conformance.report import to_json  # noqa: PLC0415  # as above

            seconds = time.monotonic() - self._started
            text = to_json(self._reports, options.conformance_seed, seconds)
            options.conformance_report.write_text(text, encoding="utf-8")
        verdicts = {report.subject.name: report.verdict for report in self._reports}
        required = [name.strip() for name in options.conformance_require.split(",") if name.strip()]
        self._lacking = [name for name in required if verdicts.get(name) != "conformant"]
        # Tests that are expected to fail, or run again until they pass, leave the run green.
        red = self._lacking or {"failed", "not-run"} & set(verdicts.values())
        fine = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if red and session.exitstatus in fine:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._reports and not self._lacking:
            return
        terminalreporter.section("eventport conformance")
        for report in self._reports:
            color = {"conformant": "green", "failed": "red"}.get(report.verdict, "yellow")
            line = f"{report.subject.name}: {report.summary()}"
            terminalreporter.write_line(line, **{color: True})
            if report.missing:
                more = len(report.missing) - SHOWN
                shown = ", ".join(report.missing[:SHOWN]) + (f" and {more} more" * (more > 0))
                terminalreporter.write_line(f"  missing: {shown}")
        for name in self._lacking:
            line = f"{name}: required to be conformant, and is not"
            terminalreporter.write_line(line, red=True)

    def _results(self, subject: dict[str, Any]) -> Results:
        from eventport_conformance.report import Results, Subject  # noqa: PLC0415  # as above

        name = subject["name"]
        if name not in self._stores:
            self._stores[name] = Results(Subject.from_json(subject))
        return self._stores[name]


def _subjects(items: Sequence[pytest.Item]) -> list[dict[str, Any]]:
    """Find the stores that there are tests for, in a form that can travel."""
    classes = {cls for item in items if (cls := getattr(item, "cls", None)) is not None}
    given = {getattr(cls, "harness", None) for cls in classes} - {None}
    if not given:
        return []
    from dataclasses import asdict  # noqa: PLC0415  # as above

    from eventport_conformance.harness import Harness  # noqa: PLC0415  # as above
    from eventport_conformance.report import Subject  # noqa: PLC0415  # as above

    named: dict[str, type[Harness]] = {}
    for harness in given:
        if isinstance(harness, type) and issubclass(harness, Harness):
            other = named.setdefault(harness.name, harness)
            if other is not harness:
                message = (
                    f"two harnesses have the name {harness.name!r}, so that one could pass for the "
                    f"other: {_place(other)} and {_place(harness)}"
                )
                raise pytest.UsageError(message)
    return [asdict(Subject.of(harness)) for harness in named.values()]


def _place(harness: type[Harness]) -> str:
    return f"{harness.__module__}.{harness.__qualname__}"
