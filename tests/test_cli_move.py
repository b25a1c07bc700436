"""`eventport move` and `eventport unfence`: what they print, and how they end."""

from __future__ import annotations

import json
import signal
import sqlite3

from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from tests.cli_files import Command, event_log, ndjson, start, stored

from eventport_conformance.waiting import until_in_thread


def test_a_move_is_reported_and_can_be_undone(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(300, 30)))
    (tmp_path / "late.ndjson").write_text(ndjson([{"stream": "a", "type": "E", "data": 1}]))
    eventport("import", "log.ndjson")
    done = eventport("move", "sqlite:///s.db", "sqlite:///t.db", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["source"], report["target"]) == ("sqlite:///s.db", "sqlite:///t.db")
    assert report["is_done"]
    assert report["copy"]["copied"] == 300
    exported = [eventport("export", "--store", f"sqlite:///{name}.db").stdout for name in "st"]
    assert exported[0] == exported[1]
    refused = eventport("import", "late.ndjson")
    assert refused.returncode == 1
    assert "its events have moved to sqlite:///t.db" in refused.stderr
    again = eventport("move", "sqlite:///s.db", "sqlite:///t.db")
    assert again.returncode == 0
    assert "had been moved by an earlier run" in again.stderr
    undone = eventport("unfence", "sqlite:///s.db")
    assert "it takes appends again; its fence said:" in undone.stderr
    assert "it had no fence" in eventport("unfence", "sqlite:///s.db").stderr
    assert eventport("import", "late.ndjson").returncode == 0


def test_a_move_that_differs_has_an_exit_code(eventport: Command) -> None:
    line = {"stream": "a", "type": "E", "data": 1, "id": str(UUID(int=1))}
    for name, data in (("s", 1), ("t", 2)):
        text = ndjson([{**line, "data": data}])
        eventport("import", "-", "--store", f"sqlite:///{name}.db", stdin=text)
    done = eventport("move", "sqlite:///s.db", "sqlite:///t.db")
    assert done.returncode == 3
    assert "nothing was moved: version 1 of stream 'a' has another data" in done.stderr
    assert "it had no fence" in eventport("unfence", "sqlite:///s.db").stderr


def test_ctrl_c_leaves_no_fence(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(5_000, 900)))
    eventport("import", "log.ndjson", "--store", "sqlite:///source.db")
    process = start(tmp_path, "move", "sqlite:///source.db", "sqlite:///s.db")
    until_in_thread(lambda: stored(tmp_path) > 0, "the command gets on")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert b"stopped by Ctrl-C" in said
    with closing(sqlite3.connect(tmp_path / "source.db")) as db:
        assert not list(db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"))
    done = eventport("move", "sqlite:///source.db", "sqlite:///s.db")
    assert "5000 events moved" in done.stderr


@pytest.mark.parametrize(
    "stores", [("memory://", "sqlite:///t.db"), ("sqlite:///s.db", "memory://")]
)
def test_memory_is_moved_by_programs(eventport: Command, stores: tuple[str, str]) -> None:
    done = eventport("move", *stores)
    assert done.returncode == 2
    assert "eventport.moving.move_events" in " ".join(done.stderr.split())
