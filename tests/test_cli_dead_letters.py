"""`eventport projection dead-letters`: what it lists, what it handles again, what it drops."""

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

buried = Projection("buried", retries=Retries(attempts=1), on_poison="dead_letter")


@buried.on("T")
async def seen(event, to):
    if str(event.data) not in Path("good").read_text():
        raise ValueError("secret")
"""
NAME = "buried_views:buried"


@pytest.fixture(params=["streams", "sqlite:///s.db"])
def checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """Let a projection give up the second and the third event."""
    (tmp_path / "buried_views.py").write_text(VIEWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("good").write_text("1")
    where: str = request.param
    monkeypatch.setenv("EVENTPORT_URL", "sqlite:///s.db")

    async def fill() -> None:
        async with await SQLiteEventStore.open(tmp_path / "s.db") as store:
            await store.append("a", [NewEvent("T", n) for n in (1, 2, 3)])

    anyio.run(fill)
    done = CliRunner().invoke(
        app, ["projection", "rebuild", NAME, "--checkpoints", where], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return where


def letters(checkpoints: str, command: str, *arguments: str) -> Result:
    line = ["projection", "dead-letters", command, NAME, "--checkpoints", checkpoints, *arguments]
    return CliRunner().invoke(app, line)


def left(checkpoints: str) -> list[int]:
    lines = letters(checkpoints, "list", "--json").stdout.splitlines()
    return [json.loads(line)["position"] for line in lines]


def test_dead_letters_are_listed_retried_and_dropped(checkpoints: str) -> None:
    assert letters(checkpoints, "list").stdout.splitlines() == [
        "position 2: T in a: ValueError in seen, buried_views.py:12",
        "position 3: T in a: ValueError in seen, buried_views.py:12",
    ]
    Path("good").write_text("1, 2")
    done = letters(checkpoints, "retry", "--all")
    assert done.exit_code == 3
    assert done.stderr.splitlines() == [
        "eventport: position 3: ValueError in seen, buried_views.py:12",
        "eventport: 1 handled, 1 failed again",
    ]
    assert left(checkpoints) == [3]
    done = letters(checkpoints, "drop", "2")
    assert done.exit_code == 1
    assert "no dead letter at position 2" in done.stderr
    assert letters(checkpoints, "retry", "2").exit_code == 1
    Path("good").write_text("1, 2, 3")
    assert letters(checkpoints, "retry", "3").exit_code == 0
    assert left(checkpoints) == []


def test_what_is_dropped_must_be_named(checkpoints: str) -> None:
    assert letters(checkpoints, "drop").exit_code == 2
    assert letters(checkpoints, "retry", "2", "--all").exit_code == 2
    assert left(checkpoints) == [2, 3]
    assert letters(checkpoints, "drop", "--all").stderr == "eventport: 2 dropped\n"
    assert left(checkpoints) == []
