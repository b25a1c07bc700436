"""Runs the suite on one harness, in a process whose imports may find a mutant: a line each.

Run as ``python -m conformance.mutation.trial HARNESS``, with the clauses to run on its input, in
order. It ends with the first clause that fails.
"""

from __future__ import annotations

import json
import sys

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final


PATIENCE: Final = 60.0
"""How many seconds a clause may take, unless it starts processes or waits for deadlines."""

HARNESSES: Final = {
    "memory": "adapters.memory.tests.test_conformance:MemoryHarness",
    "hard": "conformance.tests.test_hard_engines:HARDEST",
    "socket": "conformance.tests.socket_store:SocketHarness",
    "sqlite": "adapters.sqlite.tests.test_conformance:FileHarness",
    "postgres": "adapters.postgres.tests.test_conformance:PostgresHarness",
}
"""Where the harnesses are."""

PAGING: Final = ("REA", "ITR", "AGG", "GLO", "SUB", "SES", "CON", "SIZ", "CLO")
"""The groups that are run on an engine with tiny pages and slow answers."""


def load(name: str) -> Any:
    """Return a harness."""
    if name == "postgres":
        sys.path.insert(0, str(Path("adapters/postgres/tests").resolve()))
    module, _, attribute = HARNESSES[name].partition(":")
    return getattr(import_module(module), attribute)


def main(name: str) -> None:
    """Run clauses, and report each."""
    # What is imported from here on may be a mutant, and may fail.
    from eventport_conformance.proof.mutation import clauses_for  # noqa: PLC0415
    from eventport_conformance.running import run_clause  # noqa: PLC0415

    harness = load(name)
    applying = {
        one.id: one for one in clauses_for(harness) if name != "hard" or one.group in PAGING
    }
    _report(sorted(applying))
    for id_ in json.loads(sys.stdin.readline()):
        clause = applying[id_]
        seconds = clause.seconds if clause.uses else min(clause.seconds, PATIENCE)
        outcome = run_clause(harness, replace(clause, seconds=seconds), "asyncio")
        _report([id_, outcome.result, outcome.seconds, outcome.reason[:300]])
        if outcome.result != "held":
            return
    _report("end")


def _report(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
