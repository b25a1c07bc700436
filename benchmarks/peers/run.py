"""Puts peers' stores through the suite, and compares what fails with what is known of them.

Run by `nox -s peers`, in an environment that has the peers and not the adapters. It fails if a
clause fails that `known.toml` does not name, or the reverse.
"""

from __future__ import annotations

import sys
import tomllib

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from adapters.postgres.tests.server import running_server  # what the tests start, too
from benchmarks.peers.harnesses import PEERS, OnPostgres

from eventport_conformance.harness import Harness
from eventport_conformance.proof.mutation import clauses_for
from eventport_conformance.running import run_clause


KNOWN: Final = Path(__file__).parent / "known.toml"
PATIENCE: Final = 240.0
"""How many seconds a clause may take, most of which take one."""
NEVER: Final = ("MOD",)
"""Groups that find with many examples what others find with one; they take minutes."""


def failures(harness: type[Harness], chosen: Sequence[str]) -> dict[str, str]:
    """Run the suite, and return what fails, and how."""
    found: dict[str, str] = {}
    for clause in clauses_for(harness):
        if clause.group in NEVER or (chosen and clause.id not in chosen):
            continue
        hurried = replace(clause, seconds=min(clause.seconds, PATIENCE))
        outcome = run_clause(harness, hurried, "asyncio")
        if outcome.result != "held":
            found[clause.id] = outcome.reason
            print(f"  {clause.id} {clause.sentence}\n    {outcome.reason[:160]}", flush=True)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run all peers and clauses, or those that are named; return 1 if others fail than is known."""
    chosen = [one for one in arguments if one[:3].isupper()]
    peers = [one for one in arguments if one not in chosen]
    known = tomllib.loads(KNOWN.read_text(encoding="utf-8"))["failure"]
    wanted = [one for one in PEERS if not peers or one.name in peers]
    with ExitStack() as stack:
        if any(issubclass(one, OnPostgres) for one in wanted):
            OnPostgres.server_url = stack.enter_context(running_server("fsync = off\n")).url
        differing = [differs(one, chosen, known) for one in wanted]  # all of them
        return int(any(differing))


def differs(
    harness: type[Harness], chosen: Sequence[str], known: Sequence[Mapping[str, Any]]
) -> bool:
    """Run clauses on a peer, and return whether others fail than is known."""
    print(f"{harness.name} ({metadata.version(harness.name.partition(',')[0])})")
    mine = [one for one in known if one["peer"] == harness.name]
    possible = {id_ for one in mine for id_ in one["clauses"]}
    certain = {id_ for one in mine if not one.get("luck") for id_ in one["clauses"]}
    certain &= set(chosen) or certain
    found = set(failures(harness, chosen))
    wrong = {"not known": found - possible, "gone": certain - found}
    for what, ids in wrong.items():
        if ids:
            print(f"  {what}: {', '.join(sorted(ids))}")
    return any(wrong.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
