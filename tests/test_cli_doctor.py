"""`eventport doctor` reports facts, what is wrong and what to do; `ready` is bounded."""

from __future__ import annotations

import json

from pathlib import Path

import anyio
import pytest

from anyio import sleep_forever
from typer.testing import CliRunner, Result

from eventport import NewEvent, StoreUnavailableError, connect
from eventport.cli.app import app
from eventport.diagnosis import diagnose, ready
from eventport.fencing import set_fence
from eventport.projections import ProjectionId, StreamCheckpoints

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


VIEWS = """
from eventport.projections import Projection

doctored = Projection("doctored")


@doctored.on("T")
async def seen(event, to):
    pass
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    async def fill() -> None:
        async with await SQLiteEventStore.open(tmp_path / "s.db") as opened:
            await opened.append("a", [NewEvent("T", {})])

    anyio.run(fill)
    (tmp_path / "doctored_views.py").write_text(VIEWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "sqlite:///s.db"


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_a_store_that_is_well(store: str) -> None:
    done = doctor("--store", store)
    assert done.exit_code == 0
    assert "info: durability: the journal mode is wal\n" in done.stdout
    assert "info: capabilities: no push: SQLite has no notifications" in done.stdout
    assert done.stderr.endswith("s.db: well\n")


def test_a_fence(store: str) -> None:
    async def fence() -> None:
        async with await SQLiteEventStore.open("s.db") as opened:
            await set_fence(opened, None, "closed: append to sqlite:///t.db")

    anyio.run(fence)
    done = doctor("--store", store)
    assert done.exit_code == 3
    assert "error: fence: closed: append to sqlite:///t.db" in done.stdout


def test_a_setting_that_loses_data(store: str) -> None:
    done = doctor("--store", f"{store}?synchronous=normal")
    assert done.exit_code == 3
    assert "warning: durability: synchronous is normal: " in done.stdout
    assert "\n  open the store with synchronous=full" in done.stdout
    done = doctor("--store", f"{store}?synchronous=normal", "--json")
    assert done.exit_code == 3
    (wrong,) = (one for one in json.loads(done.stdout)["remarks"] if one["level"] != "info")
    assert wrong["topic"] == "durability"
    assert wrong["remedy"]


def test_a_store_that_is_not_there(store: str, tmp_path: Path) -> None:
    done = doctor("--store", "sqlite:///mistyped.db")
    assert done.exit_code == 1
    assert "does not exist" in done.stderr
    assert not (tmp_path / "mistyped.db").exists()


def test_a_projection_that_nothing_runs(store: str) -> None:
    name = ("--projection", "doctored_views:doctored")
    done = doctor("--store", store, *name, "--checkpoints", "streams")
    assert done.exit_code == 3
    assert (
        "warning: projections: doctored@1 is at position 0, 1 behind, and nothing runs it\n"
        "  start `eventport projection run`\n"
    ) in done.stdout


def test_a_projection_ahead_of_a_restored_store(store: str) -> None:
    async def advance() -> None:
        async with connect(store) as opened:
            await StreamCheckpoints(opened).reset(ProjectionId("doctored", 1), 99)

    anyio.run(advance)
    done = doctor(
        "--store", store, "--projection", "doctored_views:doctored", "--checkpoints", "streams"
    )
    assert done.exit_code == 3
    assert (
        "error: projections: doctored@1 is at position 99, beyond the head 2\n"
        "  the store was restored or replaced: build a new generation of the projection\n"
    ) in done.stdout


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_a_store_that_does_not_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryEventStore() as store:
        await ready(store)
        assert (await diagnose(store)).is_well
        monkeypatch.setattr(store, "read", lambda *_, **__: sleep_forever())
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.01 s"):
            await ready(store, within=0.01)
