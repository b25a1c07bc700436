"""`eventport projection` and `doctor` on a projection that is divided into parts."""

from __future__ import annotations

import json

from pathlib import Path

import anyio
import pytest

from typer.testing import CliRunner, Result

from eventport import NewEvent
from eventport.cli.app import app

from eventport_sqlite import SQLiteEventStore


VIEWS = """
from pathlib import Path

from eventport.projections import Projection, Retries

parted = Projection(
    "parted", partitions=3, retries=Retries(attempts=1), on_poison="dead_letter"
)
fewer = Projection("parted", partitions=2)


@fewer.on("T")
@parted.on("T")
async def seen(event, to):
    if event.data == 2 and not Path("good").exists():
        raise ValueError("secret")
"""
NAME = "parted_views:parted"


@pytest.fixture(params=["streams", "sqlite:///s.db"])
def checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    (tmp_path / "parted_views.py").write_text(VIEWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EVENTPORT_URL", "sqlite:///s.db")
    append(1, 2, 3)
    where: str = request.param
    return where


def append(*data: int) -> None:
    async def fill() -> None:
        async with await SQLiteEventStore.open("s.db") as store:
            for one in data:
                await store.append(f"s-{one}", [NewEvent("T", one)])

    anyio.run(fill)


def projection(checkpoints: str, *arguments: str, name: str = NAME) -> Result:
    *command, last = [one for one in arguments if not one.startswith("--")]
    options = [one for one in arguments if one.startswith("--")]
    line = ["projection", *command, last, name, "--checkpoints", checkpoints, *options]
    return CliRunner().invoke(app, line)


def test_rebuild_ends_when_all_parts_have_caught_up(checkpoints: str) -> None:
    append(*range(4, 60))
    done = projection(checkpoints, "rebuild")
    assert done.stderr.endswith("parted@1 is active now; 59 events handled\n")


def test_status_lists_the_parts(checkpoints: str) -> None:
    done = projection(checkpoints, "rebuild")
    assert done.exit_code == 0, done.output
    assert done.stderr.endswith("parted@1 is active now; 3 events handled\n")
    append(7)  # of part 0
    lines = projection(checkpoints, "status").stdout.splitlines()
    assert "projection: parted@1" in lines
    assert "parts: 3" in lines
    assert "dead letters: 1" in lines
    assert not [line for line in lines if line.startswith("runner:")]
    found = json.loads(projection(checkpoints, "status", "--json").stdout)
    assert [part["part"] for part in found["parts"]] == [
        f"parted/part-{number}-of-3" for number in range(3)
    ]
    lags = [part["lag"] for part in found["parts"]]
    assert [lag > 0 for lag in lags].count(True) == 1, "that of the event that is new"
    assert found["lag"] == max(lags)
    late = found["parts"][lags.index(max(lags))]
    text = f"- {late['part']}: position {late['position']}, lag {late['lag']}, runner none"
    assert text in lines

    name = ("--projection", NAME, "--checkpoints", checkpoints)
    report = CliRunner().invoke(app, ["doctor", *name]).stdout
    assert f"{late['lag']} behind, and nothing runs 1 of its parts" in report


def test_dead_letters_of_all_parts_are_listed_and_handled(checkpoints: str) -> None:
    assert projection(checkpoints, "rebuild").exit_code == 0
    (line,) = projection(checkpoints, "dead-letters", "list").stdout.splitlines()
    assert "T in s-2: ValueError in seen" in line
    Path("good").write_text("")
    retried = projection(checkpoints, "dead-letters", "retry", "--all")
    assert retried.stderr == "eventport: 1 handled, 0 failed again\n"
    assert projection(checkpoints, "dead-letters", "list").stdout == ""


def test_another_number_of_parts_is_refused(checkpoints: str) -> None:
    assert projection(checkpoints, "rebuild").exit_code == 0
    for command in ("status", "run"):
        done = projection(checkpoints, command, name="parted_views:fewer")
        assert done.exit_code == 1
        assert "was begun with partitions=3, not 2" in done.stderr
        assert "Traceback" not in done.stderr
