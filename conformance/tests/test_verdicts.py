"""The verdict of a run under pytest is right, whatever was run, and in which processes."""

from __future__ import annotations

import json

from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventport_conformance.clause import all_clauses


# What is imported here is not imported again by each run.
all_clauses()
for name in ("eventport_memory", "eventport_conformance.report", "eventport_conformance.running"):
    import_module(name)

pytest_plugins = ["pytester"]

PytestIn: TypeAlias = Callable[..., tuple[int, str, dict[str, Any]]]

SUITE = """
from contextlib import asynccontextmanager

from eventport_conformance import (
    Capabilities, Harness, Planned, Supported, Unsupported, conformance
)
from eventport_memory import MemoryEventStore

class Mine(Harness):
    name = "mine"
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("alone"),
        shared=Unsupported("alone"),
        durable=Unsupported("in memory"),
        guards=Supported(),
        conditions=Supported(),
        times=Supported(),
        catalogue=Supported(),
        hooks=Supported(),
    )

    @asynccontextmanager
    async def open(self):
        yield await MemoryEventStore.connect()

{change}

TestMine = conformance(Mine)
"""

ONE_BROKEN = """
from eventport import ReadResult

class Broken(MemoryEventStore):
    async def read(self, stream, **asked):
        if asked.get("backwards"):
            raise RuntimeError("cannot go backwards")
        return await super().read(stream, **asked)

MemoryEventStore = Broken
"""

UNREACHABLE = """
class Gone:
    @staticmethod
    async def connect():
        raise ConnectionRefusedError("nobody listens")

MemoryEventStore = Gone
"""

SHUFFLED = """
import random

from pathlib import Path

def pytest_collection_modifyitems(items):
    before = list(items)
    random.Random(7).shuffle(items)
    assert items != before
    Path("shuffled").touch()
"""

PLANNED = """
class Soon(Mine):
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("alone"),
        shared=Unsupported("alone"),
        durable=Unsupported("in memory"),
        guards=Supported(),
        conditions=Supported(),
        times=Supported(),
        catalogue=Supported(),
        hooks=Planned("issue 7"),
    )

Mine = Soon
"""


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of its own, outside of this project."""
    monkeypatch.setenv("COLUMNS", "200")
    return pytester.path


@pytest.fixture
def pytest_in(folder: Path, pytester: pytest.Pytester) -> PytestIn:
    """Run a suite of its own; return the exit code, the output, and what is said of the store."""

    def run(*args: str, change: str = "") -> tuple[int, str, dict[str, Any]]:
        folder.joinpath("test_mine.py").write_text(SUITE.replace("{change}", change))
        written = folder / "conformance.json"
        written.unlink(missing_ok=True)
        plain = ("-q", "-p", "no:asyncio", "-p", "no:randomly", "--rootdir=.")
        # In this process, since it takes seconds to import everything.
        done = pytester.runpytest_inprocess(*plain, f"--conformance-report={written}", *args)
        output = str(done.stdout) + str(done.stderr)
        stores = json.loads(written.read_text())["stores"] if written.exists() else []
        return int(done.ret), output, stores[0] if stores else {}

    return run


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_part_of_the_suite_is_partial(pytest_in: PytestIn, processes: tuple[str, ...]) -> None:
    code, output, store = pytest_in("-k", "VER_0 or CAP_0", *processes)
    assert code == 0
    assert store["verdict"] == "partial"
    assert store["held"] == 11
    assert len(store["missing"]) == store["of"] - 11
    assert f"mine: partial 11/{store['of']}" in output
    assert "missing: AGG-01[asyncio]" in output


def test_what_failed_last_is_a_part_too(pytest_in: PytestIn) -> None:
    chosen = ("-k", "REA_08 or REA_01")
    _, _, before = pytest_in(*chosen, change=ONE_BROKEN)
    assert (before["verdict"], before["held"]) == ("failed", 1)
    code, _, store = pytest_in("--lf")
    assert code == 0
    assert [one["id"] for one in store["clauses"]] == ["REA-08"]
    assert (store["verdict"], store["held"]) == ("partial", 1)
    assert "REA-01[asyncio]" in store["missing"]


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_the_order_of_the_tests_does_not_matter(
    folder: Path, pytest_in: PytestIn, processes: tuple[str, ...]
) -> None:
    chosen = ("-k", "REA_0")
    _, _, in_order = pytest_in(*chosen, change=ONE_BROKEN)
    folder.joinpath("conftest.py").write_text(SHUFFLED, encoding="utf-8")
    code, _, store = pytest_in(*chosen, *processes, change=ONE_BROKEN)
    assert (folder / "shuffled").exists()
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == in_order["verdict"] == "failed"
    assert store["missing"] == in_order["missing"]
    results, others = (
        [(one["id"], one["result"]) for one in each["clauses"]] for each in (store, in_order)
    )
    assert results == others


def test_nothing_selected_is_partial_too(pytest_in: PytestIn) -> None:
    code, _, store = pytest_in("-k", "nothing_of_this_name")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert (store["verdict"], store["held"]) == ("partial", 0)


def test_a_required_store_has_to_be_conformant(pytest_in: PytestIn) -> None:
    code, output, _ = pytest_in("-k", "VER_0", "--conformance-require=mine,other")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "mine: required to be conformant, and is not" in output
    assert "other: required to be conformant, and is not" in output


def test_a_clause_that_does_not_hold_fails_the_store(pytest_in: PytestIn) -> None:
    code, output, store = pytest_in("-k", "REA_08 or REA_01", change=ONE_BROKEN)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "failed"
    results = {one["id"]: one["result"] for one in store["clauses"]}
    assert results == {"REA-01": "held", "REA-08": "failed"}
    for part in (
        "REA-08 does not hold on mine (asyncio)",
        "REA-08: `backwards` returns the newest event first.",
        "store.read('order', backwards=True)",
        "RuntimeError: cannot go backwards",
        "pytest 'test_mine.py::TestMine::test_REA_08_backwards_is_newest_first[asyncio]'",
    ):
        assert part in output


def test_a_store_that_cannot_be_reached_is_not_run(pytest_in: PytestIn) -> None:
    code, output, store = pytest_in("-k", "VER_0", change=UNREACHABLE)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "not-run"
    assert "no store could be opened: ConnectionRefusedError: nobody listens" in output


def test_what_is_planned_must_not_hold(pytest_in: PytestIn) -> None:
    code, output, store = pytest_in("-k", "HOK_01 or VER_01", change=PLANNED)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "failed"
    assert "it is Planned('issue 7'), but it holds: say Supported()" in output


def test_what_is_planned_and_fails_is_missing(pytest_in: PytestIn) -> None:
    without_hooks = """
class WithoutHooks(MemoryEventStore):
    def after_commit(self, hook):
        raise NotImplementedError

MemoryEventStore = WithoutHooks
"""
    code, _, store = pytest_in("-k", "HOK_01", change=PLANNED + without_hooks)
    assert code == 0
    assert store["verdict"] == "partial"
    assert [one["result"] for one in store["clauses"]] == ["planned"]
    assert "HOK-01[asyncio]" in store["missing"]


def test_a_clause_that_is_skipped_has_not_been_shown_to_hold(pytest_in: PytestIn) -> None:
    skipping = """
import pytest
pytestmark = pytest.mark.skip("not today")
"""
    code, _, store = pytest_in("-k", "VER_0", change=skipping)
    assert code == 0
    assert (store["verdict"], store["held"]) == ("partial", 0)


def test_a_failure_that_is_expected_is_one(pytest_in: PytestIn) -> None:
    expecting = f"""{ONE_BROKEN}
import pytest
pytestmark = pytest.mark.xfail(reason="it is known")
"""
    code, output, store = pytest_in("-k", "REA_08", change=expecting)
    assert "1 xfailed" in output
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "failed"


RUN_AGAIN = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(3):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
        for report in reports:
            report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""

FAILS_ONCE = """
class FailsOnce(MemoryEventStore):
    failed = False

    async def read(self, stream, **asked):
        if not FailsOnce.failed:
            FailsOnce.failed = True
            raise RuntimeError("once")
        return await super().read(stream, **asked)

MemoryEventStore = FailsOnce
"""


def test_what_holds_when_it_runs_again_has_failed(folder: Path, pytest_in: PytestIn) -> None:
    folder.joinpath("conftest.py").write_text(RUN_AGAIN)  # as some plugins do
    code, output, store = pytest_in("-k", "REA_08", change=FAILS_ONCE)
    assert "1 passed" in output
    assert code == pytest.ExitCode.TESTS_FAILED
    assert (store["verdict"], store["held"]) == ("failed", 0)


def test_a_harness_that_skips_is_not_run(pytest_in: PytestIn) -> None:
    skipping = """
import pytest

class Skipping:
    @staticmethod
    async def connect():
        pytest.skip("no server today")

MemoryEventStore = Skipping
"""
    code, output, store = pytest_in("-k", "REA_08", change=skipping)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert (store["verdict"], store["held"]) == ("not-run", 0)
    assert "REA-08 was not run: the harness leaves it out: no server today" in output


def test_two_harnesses_cannot_share_a_name(pytest_in: PytestIn) -> None:
    second = """
class Other(Mine):
    pass

TestOther = conformance(Other)
"""
    code, output, _ = pytest_in("-k", "VER_0", change=second)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "two harnesses have the name 'mine'" in output


def test_a_process_that_dies_takes_its_clause_with_it(pytest_in: PytestIn) -> None:
    dying = """
import os

class Dying(MemoryEventStore):
    async def read(self, stream, **asked):
        if asked.get("backwards"):
            os._exit(3)
        return await super().read(stream, **asked)

MemoryEventStore = Dying
"""
    code, _, store = pytest_in("-k", "REA_08 or REA_01", "-n", "1", change=dying)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "partial"
    assert "REA-08[asyncio]" in store["missing"]


def test_options_of_the_environment_hide_nothing(
    pytest_in: PytestIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k VER_0 -p no:terminalreporter --no-summary")
    code, _, store = pytest_in("--conformance-require=mine")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "partial"


def test_what_is_installed_is_looked_through_once(
    pytest_in: PytestIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than most clauses, of which there are hundreds."""
    looked: list[object] = []
    find = metadata.packages_distributions

    def counted() -> Mapping[str, list[str]]:
        looked.append(None)
        return find()

    monkeypatch.setattr(metadata, "packages_distributions", counted)
    code, _, _ = pytest_in("-k", "APP_0")
    assert code == 0
    assert len(looked) <= 1
