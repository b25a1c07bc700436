"""The command line runs the suite on any store, and makes pages of reports."""

from __future__ import annotations

import json

from importlib.metadata import version
from pathlib import Path

import pytest

from typer.testing import CliRunner, Result

from eventport_conformance.cli import app
from eventport_conformance.spec import render_spec


HARNESS = """
from contextlib import asynccontextmanager
from eventport_conformance import Capabilities, Harness, Supported, Unsupported
from eventport_memory import MemoryEventStore

class Mine(Harness):
    name = "mine"
    capabilities = Capabilities(
        sessions=Supported(), global_order=Supported(), push=Unsupported("alone"),
        shared=Unsupported("alone"), durable=Unsupported("alone"), guards=Supported(),
        conditions=Supported(),
        hooks=Supported(), times=Supported(), catalogue=Supported(),
    )
    @asynccontextmanager
    async def open(self):
        yield await MemoryEventStore.connect()
"""


def call(*args: str) -> Result:
    return CliRunner().invoke(app, args, env={"COLUMNS": "200"})


def test_a_part_of_a_run_is_not_conformant() -> None:
    result = call("run", "--store", "memory://", "--only", "VER", "--only", "APP-01")
    assert result.exit_code == 1
    assert "memory: partial 8/" in result.output
    assert "seed 0" in result.output


def test_a_url_gives_a_new_store_to_each_clause(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    url = f"sqlite:///{tmp_path}/{{new}}.db"
    result = call("run", "--store", url, "--only", "DUR", "--only", "VER", "--report", str(report))
    assert "sqlite: partial 12/" in result.output
    (store,) = json.loads(report.read_text(encoding="utf-8"))["stores"]
    assert store["adapter"].startswith("eventport-sqlite ")
    assert {one["result"] for one in store["clauses"]} == {"held"}
    assert len(list(tmp_path.glob("conformance-*.db"))) == 13  # one for the question what it can do


def test_a_store_that_holds_events_is_not_run(tmp_path: Path) -> None:
    result = call("run", "--store", f"sqlite:///{tmp_path}/one.db", "--only", "VER")
    assert result.exit_code == 1
    assert "the store is not empty: write {new}" in result.output.replace("\n", "")
    assert "sqlite: not-run 1/" in result.output


def test_it_runs_on_the_event_loops_asked_for() -> None:
    result = call(
        "run", "--store", "memory://", "--only", "VER", "--loop", "trio", "--loop", "asyncio"
    )
    assert "memory: partial 14/" in result.output


def test_a_harness_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("my_own_harness.py").write_text(HARNESS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    result = call("run", "--store", "my_own_harness:Mine", "--only", "VER")
    assert "mine: partial 7/" in result.output


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("nowhere", "neither a URL nor of the form module:Harness"),
        ("nowhere:Harness", "No module named 'nowhere'"),
        ("json:Harness", "there is no Harness in json"),
        ("json:JSONDecoder", "a subclass of Harness"),
    ],
)
def test_a_store_that_cannot_be_found_is_named(store: str, message: str) -> None:
    result = call("run", "--store", store)
    assert result.exit_code == 2
    assert message in result.output


def test_an_unknown_event_loop_is_named() -> None:
    result = call("run", "--store", "memory://", "--loop", "curio")
    assert result.exit_code == 2
    assert "'curio' is no event loop" in result.output


def test_a_failure_is_explained_and_can_be_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = HARNESS.replace(
        "class Mine(Harness):",
        "class Broken(MemoryEventStore):\n"
        "    async def read(self, stream, **asked):\n"
        "        asked.pop('backwards', None)\n"
        "        return await super().read(stream, **asked)\n\n"
        "class Mine(Harness):",
    ).replace("await MemoryEventStore.connect", "await Broken.connect")
    tmp_path.joinpath("my_broken_harness.py").write_text(broken, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    result = call("run", "--store", "my_broken_harness:Mine", "--only", "REA-08")
    assert result.exit_code == 1
    assert "Expected:  [5, 4, 3, 2, 1]" in result.output
    assert "Seen:      [1, 2, 3, 4, 5]" in result.output
    assert "'my_broken_harness:Mine' --only REA-08 --loop asyncio --seed 0" in result.output


def test_the_specification_is_printed() -> None:
    assert call("spec").output == render_spec()


def test_pages_are_made_of_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    asked = ("--only", "VER", "--seed", "7", "--report", str(report))
    call("run", "--store", "memory://", *asked)
    page = call("matrix", str(report)).output
    assert "| **verdict** | **partial** |" in page
    assert f"| adapter | eventport-memory {version('eventport-memory')} |" in page
    assert f"| suite | {version('eventport-conformance')} |" in page
    assert f"| core | {version('eventport')} |" in page
    assert "| seed | 7 |" in page
    assert "| Versions | 7/7 |" in page
    assert "| Append | 0/15 |" in page
    assert "| Durability | -<sup>" in page
    assert "memory: the events live in memory; use SQLite to keep them" in page
    assert "| Lost connections | -<sup>" in page
    assert "memory: a URL alone gives no control of the server" in page
    badge = json.loads(call("badge", str(report)).output)
    assert badge["message"] == "0 of 1 stores conformant"
    assert badge["color"] == "red"


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    result = call("matrix", str(other))
    assert result.exit_code == 2
    assert "no conformance.json of format 1" in result.output


def test_a_store_that_cannot_be_opened_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = HARNESS.replace("await MemoryEventStore.connect()", "await gone()")
    gone += "\nasync def gone():\n    raise OSError('nobody listens')\n"
    tmp_path.joinpath("my_gone_harness.py").write_text(gone, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    result = call("run", "--store", "my_gone_harness:Mine")
    assert result.exit_code == 1
    assert ": not-run 0/" in result.output
    assert result.output.count("no store could be opened: OSError: nobody listens") == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [("nothing://", "nothing is installed for nothing://"), ("sqlite:///{folder}", "directory")],
)
def test_a_url_that_leads_nowhere_is_not_run(tmp_path: Path, url: str, message: str) -> None:
    report = tmp_path / "report.json"
    result = call("run", "--store", url.format(folder=tmp_path), "--report", str(report))
    assert result.exit_code == 1
    assert "no store could be opened: " in result.output
    assert message in result.output
    (store,) = json.loads(report.read_text(encoding="utf-8"))["stores"]
    assert (store["verdict"], store["held"]) == ("not-run", 0)
    assert f"{store['subject']['name']}: not-run 0/" in result.output


def test_what_could_only_end_badly_is_refused_before_it_begins(tmp_path: Path) -> None:
    result = call("run", "--store", "memory://", "--only", "NOPE")
    assert result.exit_code == 2
    assert "'NOPE' is neither a clause" in result.output
    missing = tmp_path / "missing" / "report.json"
    result = call("run", "--store", "memory://", "--only", "VER", "--report", str(missing))
    assert result.exit_code == 2
    assert "does not exist" in result.output
