"""`eventport import` takes files as programs write them, or names the line and the reason."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

from pathlib import Path
from typing import Any

import pytest

from tests.archives import zstd
from tests.cli_files import EVENTPORT


def run(folder: Path, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [EVENTPORT, *args],
        cwd=folder,
        env={**os.environ, "EVENTPORT_URL": "sqlite:///s.db"},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def line(version: int | None = None, **more: Any) -> bytes:
    own = {} if version is None else {"version": version}
    return json.dumps({"stream": "s", "type": "E", "data": version, **own, **more}).encode() + b"\n"


def exported(folder: Path, store: str = "s.db") -> list[dict[str, Any]]:
    text = run(folder, "export", "--store", f"sqlite:///{store}").stdout
    return [json.loads(one) for one in text.splitlines()]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + line(),
        gzip.compress(line(), mtime=0),
        gzip.compress(b"\xef\xbb\xbf" + line(), mtime=0),
        zstd.compress(line()),
        b"\x50\x2a\x4d\x18\x04\0\0\0some" + zstd.compress(b"\n") + zstd.compress(line()),
    ],
    ids=["byte-order mark", "gzip", "both", "zstd", "zstd in frames"],
)
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_what_wraps_a_file_is_taken_off(tmp_path: Path, content: bytes, piped: bool) -> None:
    (tmp_path / "log").write_bytes(content)
    done = run(tmp_path, "import", "-" if piped else "log", stdin=content if piped else b"")
    assert (done.returncode, len(exported(tmp_path))) == (0, 1), done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"stream":"s","type":"E","data":1,"data":2}\n', "an object has 'data' twice"),
        (b'{"stream":"s","type":"E","data":{"a":[{"n":1,"n":1}]}}\n', "an object has 'n' twice"),
        (b'{"stream":"s","type":"E","data":{"a@b.org":1,"a@b.org":2}}\n', "has key 2 twice"),
        (line().decode().encode("utf-16"), "UTF-16: convert the file to UTF-8"),
        (gzip.compress(line() * 100, mtime=0)[:-9], "compressed by gzip, but incomplete"),
        (zstd.compress(line() * 100)[:-9], "compressed by zstd, but incomplete or damaged"),
        (zstd.compress(line()) + b"junk", "compressed by zstd, but incomplete or damaged"),
        (zstd.compress(line())[:9] + b"?" * 20, "compressed by zstd, but incomplete or damaged"),
        (line(recorded_at="2026-01-01T00:00:00"), "recorded_at needs an offset"),
        (line(0), "Expected `int` >= 1"),
    ],
)
def test_what_would_lose_something_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "log").write_bytes(content)
    done = run(tmp_path, "import", "log")
    assert done.returncode == 1
    assert done.stderr.startswith(b"eventport: line 1: ")
    assert reason in done.stderr.decode()
    assert not (tmp_path / "s.db").exists()


def test_a_later_part_goes_onto_an_earlier_one(tmp_path: Path) -> None:
    run(tmp_path, "import", "-", stdin=line() * 2)
    first = run(tmp_path, "export").stdout
    run(tmp_path, "import", "-", "--store", "sqlite:///copy.db", stdin=first)
    run(tmp_path, "import", "-", stdin=first + line(3) + line(4))
    later = run(tmp_path, "export", "--after", "2").stdout
    assert later.count(b"\n") == 2
    done = run(tmp_path, "import", "-", "--store", "sqlite:///copy.db", stdin=later)
    assert done.returncode == 0, done.stderr
    there, copy = exported(tmp_path), exported(tmp_path, "copy.db")
    assert [one["version"] for one in copy] == [1, 2, 3, 4]
    # Times included: "sales by day" is the same in the copy.
    assert copy == there
    assert b"recorded_at" not in done.stderr


def test_a_part_of_a_stream_is_refused_unless_it_is_to_be_counted_anew(tmp_path: Path) -> None:
    for part, reason in (
        (line(4), "begins with version 4 in this file, but the store has 0 of its events"),
        (line(1) + line(3), "line 2: stream 's' goes from version 1 to 3"),
        (line(2) + line(1), "line 2: stream 's' goes from version 2 to 1"),
    ):
        done = run(tmp_path, "import", "-", stdin=part)
        assert (done.returncode, reason in done.stderr.decode()) == (1, True), done.stderr
        assert b"--renumber" in done.stderr
    done = run(tmp_path, "import", "-", "--renumber", stdin=line(4) + line(7))
    assert [(one["version"], one["data"]) for one in exported(tmp_path)] == [(1, 4), (2, 7)]


def test_what_read_writes_can_be_imported(tmp_path: Path) -> None:
    run(tmp_path, "import", "-", stdin=line() * 3)
    shown = run(tmp_path, "read", "s").stdout
    assert run(tmp_path, "import", "-", "--store", "sqlite:///copy.db", stdin=shown).returncode == 0
    for one, other in zip(exported(tmp_path), exported(tmp_path, "copy.db"), strict=True):
        assert (one["version"], one["id"]) == (other["version"], other["id"])
        assert one["recorded_at"].endswith("Z")


def test_an_import_into_memory_says_that_it_is_lost(tmp_path: Path) -> None:
    done = run(tmp_path, "import", "-", "--store", "memory://", stdin=line())
    assert b"memory:// forgets all of it" in done.stderr


def test_the_command_is_a_module_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eventport", "--version"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_list_of_types_in_one_option_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "export", "--type", "A,B")
    assert done.returncode == 2
    assert b"repeat the option" in done.stderr
