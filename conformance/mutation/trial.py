"""Runs the suite on one harness, in a process whose imports may find a mutant.

Such a process is made by a server that has imported what no mutant can change, which takes most of
the time of a start. It answers through a pipe: the clauses that apply, and then, for each that it
is given with the seconds that it may take, what came of it. It ends with the first that fails.
"""

from __future__ import annotations

import os
import sys
import threading

from collections import Counter, defaultdict
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final


PROCESSES: Final = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "pytest",
        "hypothesis",
        "msgspec",
        "anyio",
        "trio",
        "aiosqlite",
        "asyncpg",
        "conformance.mutation.trial",
    ]
)

HARNESSES: Final = {
    "memory": "adapters.memory.tests.test_conformance:MemoryHarness",
    "hard": "conformance.tests.test_hard_engines:HardHarness",
    "socket": "conformance.tests.socket_store:SocketHarness",
    "sqlite": "adapters.sqlite.tests.test_conformance:FileHarness",
    "postgres": "adapters.postgres.tests.test_conformance:OwnServerHarness",
}
"""Where the harnesses are."""

NEVER: Final = ("MOD",)
"""Groups that find with many examples what others find with one; they take minutes."""

OFTEN: Final = 30
"""From how many calls on the lines of a function are no longer looked at one by one."""


def harness_of(name: str, data: str) -> Any:
    """Return a harness; `data` is the folder of the server that runs for it."""
    module, _, attribute = HARNESSES[name].partition(":")
    if not data:
        return getattr(import_module(module), attribute)
    found = import_module(module)
    harness = getattr(found, attribute)
    harness.running = found.Server.of_another_process(Path(data))
    harness.server_url = harness.running.url
    return harness


class Lines:
    """Notes which lines of a folder's files are run, in all threads that start from now on.

    Of a function that is called often, it takes all lines for run, which spares much time.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder + os.sep
        self._seen: dict[str, set[int]] = defaultdict(set)
        self._calls: Counter[CodeType] = Counter()
        threading.settrace(self._call)
        sys.settrace(self._call)

    def taken(self) -> dict[str, list[int]]:
        """Return the lines of each file since the last time."""
        seen, self._seen = self._seen, defaultdict(set)
        self._calls.clear()
        return {name.removeprefix(self._folder): sorted(lines) for name, lines in seen.items()}

    def _call(self, frame: FrameType, _event: str, _value: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self._folder):
            return None
        self._calls[code] += 1
        if self._calls[code] < OFTEN:
            return self._line
        if self._calls[code] == OFTEN:
            self._seen[code.co_filename].update(line for *_, line in code.co_lines() if line)
        return None

    def _line(self, frame: FrameType, _event: str, _value: object) -> Any:
        self._seen[frame.f_code.co_filename].add(frame.f_lineno)
        return self._line


def main(pipe: Connection, name: str, copy: str, data: str, *, traced: bool) -> None:
    """Run clauses, and report each; with `traced`, report which lines of the copy each has run."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.dup2(sink, sys.stderr.fileno())
    lines = Lines(copy) if traced else None
    first = str(Path(copy).parent)
    sys.path.insert(0, first)  # before the package that is installed
    paths = [first, os.environ.get("PYTHONPATH", "")]  # for the processes that clauses start
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # What is imported from here on may be a mutant, and may fail.
    from eventport_conformance.proof.mutation import clauses_for  # noqa: PLC0415
    from eventport_conformance.running import run_clause  # noqa: PLC0415

    harness = harness_of(name, data)
    applying = {one.id: one for one in clauses_for(harness) if one.group not in NEVER}
    if name == "hard":
        hard = import_module("conformance.tests.test_hard_engines")
        applying = {one.id: one for one in hard.CLAUSES}
    pipe.send(sorted(applying))
    for id_, seconds in pipe.recv():
        clause = applying[id_]
        limited = replace(clause, seconds=min(clause.seconds, seconds))
        outcome = run_clause(harness, limited, "asyncio")
        run = lines.taken() if lines else {}
        pipe.send((outcome.result, outcome.seconds, outcome.reason[:300], run))
        if outcome.result != "held":
            return
