"""The verdict of a run under pytest is right, whatever was run, and in which processes."""

from __future__ import annotations

import json
import subprocess
import sys

from pathlib import Path
from typing import Any

import pytest

from eventport_conformance.waiting import START_SECONDS


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
        times=Supported(),
        catalogue=Supported(),
        hooks=Planned("issue 7"),
    )

Mine = Soon
"""


def pytest_in(folder: Path, *args: str, change: str = "") -> tuple[int, str, dict[str, Any]]:
    """Run a suite of its own; return the exit code, the output, and what is said of the store."""
    folder.joinpath("test_mine.py").write_text(SUITE.replace("{change}", change), encoding="utf-8")
    report = folder / "conformance.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:randomly"]
    done = subprocess.run(
        [*command, "--rootdir=.", f"--conformance-report={report}", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert report.exists(), done.stdout + done.stderr
    stores = json.loads(report.read_text(encoding="utf-8"))["stores"]
    return done.returncode, done.stdout, stores[0] if stores else {}


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_part_of_the_suite_is_partial(tmp_path: Path, processes: tuple[str, ...]) -> None:
    code, output, store = pytest_in(tmp_path, "-k", "VER_0 or CAP_0", *processes)
    assert code == 0
    assert store["verdict"] == "partial"
    assert store["held"] == 11
    assert len(store["missing"]) == store["of"] - 11
    assert f"mine: partial 11/{store['of']}" in output
    assert "missing: AGG-01[asyncio]" in output


def test_what_failed_last_is_a_part_too(tmp_path: Path) -> None:
    chosen = ("-k", "REA_08 or REA_01")
    _, _, before = pytest_in(tmp_path, *chosen, change=ONE_BROKEN)
    assert (before["verdict"], before["held"]) == ("failed", 1)
    code, _, store = pytest_in(tmp_path, "--lf")
    assert code == 0
    assert [one["id"] for one in store["clauses"]] == ["REA-08"]
    assert (store["verdict"], store["held"]) == ("partial", 1)
    assert "REA-01[asyncio]" in store["missing"]


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_the_order_of_the_tests_does_not_matter(tmp_path: Path, processes: tuple[str, ...]) -> None:
    chosen = ("-k", "REA_0")
    _, _, in_order = pytest_in(tmp_path, *chosen, change=ONE_BROKEN)
    tmp_path.joinpath("conftest.py").write_text(SHUFFLED, encoding="utf-8")
    code, _, store = pytest_in(tmp_path, *chosen, *processes, change=ONE_BROKEN)
    assert (tmp_path / "shuffled").exists()
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == in_order["verdict"] == "failed"
    assert store["missing"] == in_order["missing"]
    results, others = (
        [(one["id"], one["result"]) for one in each["clauses"]] for each in (store, in_order)
    )
    assert results == others


def test_nothing_selected_is_partial_too(tmp_path: Path) -> None:
    code, _, store = pytest_in(tmp_path, "-k", "nothing_of_this_name")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert (store["verdict"], store["held"]) == ("partial", 0)


def test_a_required_store_has_to_be_conformant(tmp_path: Path) -> None:
    code, output, _ = pytest_in(tmp_path, "-k", "VER_0", "--conformance-require=mine,other")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "mine: required to be conformant, and is not" in output
    assert "other: required to be conformant, and is not" in output


def test_a_clause_that_does_not_hold_fails_the_store(tmp_path: Path) -> None:
    code, output, store = pytest_in(tmp_path, "-k", "REA_08 or REA_01", change=ONE_BROKEN)
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


def test_a_store_that_cannot_be_reached_is_not_run(tmp_path: Path) -> None:
    code, output, store = pytest_in(tmp_path, "-k", "VER_0", change=UNREACHABLE)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "not-run"
    assert "no store could be opened: ConnectionRefusedError: nobody listens" in output


def test_what_is_planned_must_not_hold(tmp_path: Path) -> None:
    code, output, store = pytest_in(tmp_path, "-k", "HOK_01 or VER_01", change=PLANNED)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert store["verdict"] == "failed"
    assert "it is Planned('issue 7'), but it holds: say Supported()" in output


def test_what_is_planned_and_fails_is_missing(tmp_path: Path) -> None:
    without_hooks = """
class WithoutHooks(MemoryEventStore):
    def after_commit(self, hook):
        raise NotImplementedError

MemoryEventStore = WithoutHooks
"""
    code, _, store = pytest_in(tmp_path, "-k", "HOK_01", change=PLANNED + without_hooks)
    assert code == 0
    assert store["verdict"] == "partial"
    assert [one["result"] for one in store["clauses"]] == ["planned"]
    assert "HOK-01[asyncio]" in store["missing"]


def test_a_clause_that_is_skipped_has_not_been_shown_to_hold(tmp_path: Path) -> None:
    skipping = """
import pytest
pytestmark = pytest.mark.skip("not today")
"""
    code, _, store = pytest_in(tmp_path, "-k", "VER_0", change=skipping)
    assert code == 0
    assert (store["verdict"], store["held"]) == ("partial", 0)
