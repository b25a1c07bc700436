"""Proves that `eventport export` selects events and never leaves half a file."""

from __future__ import annotations

import os
import sqlite3

from pathlib import Path

from tests.cli_files import SECONDS, Command, event_log, ndjson, start, without_ids

from eventport_conformance.waiting import until_in_thread


def test_export_selects(eventport: Command) -> None:
    lines = [
        {"stream": stream, "type": type_, "data": number}
        for number, (stream, type_) in enumerate(
            [("order-1", "A"), ("order-1", "B"), ("cart-1", "A"), ("order-2", "C")]
        )
    ]
    eventport("import", "-", stdin=ndjson(lines))

    def chosen(*args: str) -> list[int]:
        return [line["data"] for line in without_ids(eventport("export", *args).stdout)]

    assert chosen() == [0, 1, 2, 3]
    assert chosen("-", "--prefix", "order-") == [0, 1, 3]
    assert chosen("--type", "A", "--type", "C") == [0, 2, 3]
    assert chosen("--after", "2") == [2, 3]
    assert chosen("--after", "1", "--prefix", "order-", "--type", "C") == [3]
    assert chosen("--type", "D") == []


def test_a_killed_export_leaves_the_old_file_alone(eventport: Command, tmp_path: Path) -> None:
    eventport("import", "-", stdin=ndjson(event_log(30_000, 300)))
    old = tmp_path / "out.ndjson"
    old.write_text("old\n")
    process = start(tmp_path, "export", "out.ndjson")
    until_in_thread(lambda: bool(list(tmp_path.glob(".out.ndjson.*"))), "the command gets on")
    process.kill()
    process.communicate()
    assert old.read_text() == "old\n"


def test_an_export_that_fails_half_way_leaves_nothing(eventport: Command, tmp_path: Path) -> None:
    eventport("import", "-", stdin=ndjson(event_log(2_000, 20)))
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("UPDATE eventport_events SET data = '{' WHERE position = 1999")
    db.commit()
    db.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    failed = eventport("export", "out.ndjson")
    assert failed.returncode == 1
    assert "does not hold JSON" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_export_keeps_the_mode_of_the_file_and_follows_links(
    eventport: Command, tmp_path: Path
) -> None:
    eventport("import", "-", stdin=ndjson(event_log(3, 1)))
    real, link = tmp_path / "real", tmp_path / "link"
    real.touch(mode=0o600)
    link.symlink_to(real)
    assert eventport("export", "link").returncode == 0
    assert link.is_symlink()
    assert len(real.read_text().splitlines()) == 3
    assert real.stat().st_mode & 0o777 == 0o600


def test_export_writes_into_a_pipe_and_does_not_take_its_place(
    eventport: Command, tmp_path: Path
) -> None:
    eventport("import", "-", stdin=ndjson(event_log(3, 1)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(tmp_path, "export", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that a failure does not hang here
    assert process.wait(SECONDS) == 0
    assert os.read(reader, 1 << 16).count(b"\n") == 3
    os.close(reader)
    assert pipe.is_fifo()
    assert process.communicate()[1].startswith(b"eventport: 3 events")
