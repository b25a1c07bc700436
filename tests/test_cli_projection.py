"""`eventport projection`: what it shows, on terminals and elsewhere, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from eventport import NewEvent

from eventport_conformance.waiting import START_SECONDS
from eventport_sqlite import SQLiteEventStore


EVENTPORT: Final = str(Path(sys.executable).with_name("eventport"))
VIEWS: Final = """
import asyncio

from eventport.projections import Projection, Retries


def make(**options):
    projection = Projection("numbers", retries=Retries(attempts=1), **options)

    @projection.on("Numbered")
    async def numbered(event, to):
        await asyncio.sleep(0.01)
        if event.data is None:
            raise ValueError("no number")

    return projection


one = make(on_poison="dead_letter")
stopping = make()
two = make(generation=2, on_poison="dead_letter")
no_projection = 3
"""

Command: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


async def fill(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        await store.append("a", [NewEvent("Numbered", n) for n in (1, 2, None, 4)])
        await store.append("b", [NewEvent("Numbered", n) for n in range(60)])


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """How to start commands: where there are views, and a store with events."""
    (tmp_path / "views.py").write_text(VIEWS)
    asyncio.run(fill(tmp_path / "s.db"))
    return {
        "cwd": tmp_path,
        "env": {**os.environ, "EVENTPORT_URL": "sqlite:///s.db"},
        "text": True,
    }


@pytest.fixture
def projection(arguments: dict[str, Any]) -> Command:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [EVENTPORT, "projection", *args]
        return subprocess.run(
            command, capture_output=True, timeout=START_SECONDS, check=False, **arguments
        )

    return run


def test_rebuild_ends_when_the_generation_is_active_and_status_shows_it(
    projection: Command,
) -> None:
    done = projection("rebuild", "views:one")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "eventport: numbers@1 is active now; 64 events handled"
    shown = projection("status", "views:one").stdout.splitlines()
    assert shown[:5] == [
        "projection: numbers@1",
        "active generation: 1",
        "position: 64",
        "head: 64",
        "lag: 0",
    ]
    assert shown[5:] == [
        "runner: none",
        "dead letters: 1",
        "- position 3: Numbered in a: ValueError in numbered, views.py:14",
    ]
    assert json.loads(projection("status", "views:one", "--json").stdout) == {
        "projection": "numbers@1",
        "active_generation": 1,
        "position": 64,
        "head": 64,
        "lag": 0,
        "runner": None,
        "dead_letters": [
            {
                "position": 3,
                "type": "Numbered",
                "stream": "a",
                "error": "ValueError in numbered, views.py:14",
            }
        ],
    }
    assert "active generation: 1\nposition: 0\n" in projection("status", "views:two").stdout
    assert projection("rebuild", "views:two").returncode == 0
    ended = projection("run", "views:one")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "a higher generation has taken its place" in ended.stderr
    refused = projection("rebuild", "views:one")
    assert refused.returncode == 1
    assert "generation=3" in refused.stderr


def test_checkpoints_can_be_in_streams(projection: Command) -> None:
    assert projection("rebuild", "views:one", "--checkpoints", "streams").returncode == 0
    # Nothing has happened in the tables.
    assert "active generation: none" in projection("status", "views:one").stdout
    status = projection("status", "views:one", "--checkpoints", "streams").stdout
    assert "active generation: 1" in status
    assert "dead letters: 1" in status


def test_a_poison_event_ends_it_with_one_line(projection: Command) -> None:
    done = projection("run", "views:stopping")
    assert done.returncode == 1
    trace, last = done.stderr.rsplit("\n", 2)[:2]
    assert "numbers@1 stopped at position 3" in last
    # Where it comes from, and nothing of the event.
    assert trace.endswith('raise ValueError("no number")\nValueError')
    assert "in numbered" in trace
    assert "eventport/" not in trace.replace("eventport: ", "")


def test_an_error_in_the_module_shows_where_it_is(
    projection: Command, arguments: dict[str, Any]
) -> None:
    folder: Path = arguments["cwd"]
    (folder / "broken.py").write_text("def fail():\n    raise RuntimeError('early')\n\nfail()\n")
    (folder / "lost.py").write_text("import there_is_no_such_module\n")
    done = projection("run", "broken:one")
    assert done.returncode == 1
    assert 'broken.py", line 2, in fail' in done.stderr
    assert "importlib" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "eventport: broken:one: 'broken' cannot be imported: RuntimeError: early"
    done = projection("status", "lost:one")
    assert 'lost.py", line 1' in done.stderr
    assert "No module named 'there_is_no_such_module'" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("views", "must be written module:projection"),
        ("nowhere:one", "there is no module 'nowhere' in"),
        ("views:nothing", "module 'views' has no 'nothing'"),
        ("views:no_projection", "is a int, not a Projection"),
    ],
)
def test_what_is_no_projection(projection: Command, name: str, message: str) -> None:
    done = projection("status", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("ending", "ctrl_c_is"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # as in the background of a shell script
    ],
)
def test_it_can_be_ended_well_and_a_terminal_shows_how_far_it_is(
    arguments: dict[str, Any],
    projection: Command,
    ending: signal.Signals,
    ctrl_c_is: signal.Handlers,
) -> None:
    signal.signal(signal.SIGINT, ctrl_c_is)  # the command inherits it
    ours, theirs = pty.openpty()
    command = [EVENTPORT, "projection", "run", "views:one"]
    with subprocess.Popen(command, stderr=theirs, **arguments) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + START_SECONDS
        try:
            while b"lag 0" not in shown and time.monotonic() < deadline:
                shown += os.read(ours, 10_000)
            process.send_signal(ending)
            code = process.wait(START_SECONDS)
        finally:
            process.kill()  # the end of the block waits for it
    os.close(ours)
    assert code == 0
    assert b"numbers@1" in shown
    assert b"events/s" in shown
    # Nobody has to wait for the lease.
    assert "runner: none" in projection("status", "views:one").stdout
