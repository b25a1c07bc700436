"""What the tests of import and export share: the command, and logs to import."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias


EVENTPORT = str(Path(sys.executable).with_name("eventport"))
SECONDS = 300
# Output that is not buffered would hide what happens to output that is.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
Command: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]
Line: TypeAlias = dict[str, Any]


def start(tmp_path: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [EVENTPORT, *args],
        cwd=tmp_path,
        env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db"},
        stderr=subprocess.PIPE,
    )


def event_log(events: int, streams: int) -> list[Line]:
    """Make what a business leaves behind: many streams, mixed with each other, all of JSON."""
    rng = random.Random(8577)
    kinds: list[Callable[[], Any]] = [
        lambda: {"org:group": f"Group {rng.randrange(9)}", "n": rng.randrange(-(2**63), 2**63)},
        lambda: {"€": "ßü\u0000\U0001f600", "": [], "a.b": {"$x": None}, "q": rng.random()},
        lambda: [1, 1.0, -0.0, 1e300, True, "x" * rng.randrange(200)],
        lambda: rng.choice([None, "", 0, {}, []]),
    ]
    lines: list[Line] = []
    for number in range(events):
        line: Line = {
            "stream": f"case-{number if number < streams else rng.randrange(streams)}",
            "type": rng.choice(["Receipt confirmed", "Checked", "Décidé"]),
        }
        if number % 100:
            line["data"] = rng.choice(kinds)()
        else:
            line["data_base64"] = "AP8Q" * rng.randrange(9)
        line["metadata"] = {"occurred_at": f"2011-01-01T{number % 24:02}:00"} if number % 3 else {}
        lines.append(line)
    rng.shuffle(lines)
    return lines


def ndjson(lines: Sequence[Line]) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def without_ids(text: str) -> list[Line]:
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        del line["id"], line["version"], line["recorded_at"]
    return lines


def stored(tmp_path: Path) -> int:
    """Count what is in the store at this moment, past eventport."""
    if not (tmp_path / "s.db").exists():
        return 0
    db = sqlite3.connect(tmp_path / "s.db")
    try:
        count: int = db.execute("SELECT count(*) FROM eventport_events").fetchone()[0]
    except sqlite3.OperationalError:  # there is no table yet, or it is just being made
        return 0
    finally:
        db.close()
    return count
