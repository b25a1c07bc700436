"""The page of the proof: which bugs each group of clauses has found. It prints `docs/proof.md`.

Run as ``python -m conformance.mutation.page``.
"""

from __future__ import annotations

import sys
import tomllib

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from eventport_conformance.clause import GROUPS, all_clauses
from eventport_conformance.proof.mutation import all_mutants


HERE: Final = Path(__file__).parent
EXAMPLE: Final = HERE.parents[1] / "examples" / "file_store"
PEERS: Final = HERE.parents[1] / "benchmarks" / "peers" / "known.toml"

_INTRODUCTION: Final = """\
# What the suite has found

A suite is worth what it finds. This page lists the bugs that the clauses of the
[specification](spec.md) have been shown to find. It is made from the tests that show it, with
`python -m conformance.mutation.page`, and a test keeps it up to date.

- **Planted bugs**: stores with one bug each, of a kind that stores really have, or had. Each has to
  fail the clauses that are named with it. A store that does nothing has to fail every clause.
- **Random bugs**: one small change to the real code of the core or of an adapter, such as `<` in
  place of `<=`, or a statement that is left out. The suite alone is the judge.
- **Peers**: stores of other projects behind a thin adapter.
"""

_RANDOM: Final = """\
## Random bugs in the real code

`nox -s mutation` makes them, with a seed that it prints, and runs the suite on each until a clause
fails. What survives, and changes nothing that a caller of a store can see, is explained in
`conformance/mutation/survivors.toml`; of the rest, at least 95 % have to be killed. What was
left alive in the core led to SES-33, which kills it.

Of the 160 mutants of 2026-11-29, 41 survived at first. 29 of these are explained. 12 are killed
by clauses that were made or sharpened for them (CAN-20, CAN-21, CAT-05, CLO-01, FLT-17, FLT-22,
IDM-15, INL-06, USE-06), which was checked for each of them; so no mutant of that run that a
caller can see is left alive. Three faults of the real code came to light with these clauses: a
lost append with `any` that PostgreSQL took for an earlier one (FLT-22), a query in SQLite in
memory that saw what a handler undid (INL-07), and a read on PostgreSQL that failed with a
`TypeError` when its store was closed meanwhile (FLT-17).

A run is repeated with `nox -s mutation -- PART --count N --seed SEED`, on the code as it was then:
which mutants a seed gives changes with each line.
"""

_PEERS: Final = """\
## Peers' stores

Each store is put through the suite as its documentation has it set up, behind a thin adapter in
`benchmarks/peers/`, which is an engine of ours over the calls of theirs: what the store decides is
theirs, what the core adds is not on trial. So this shows what their writes, reads and orders
promise, and nothing of their own aggregates, applications and subscriptions. What fails is not
always a bug: some of it is another promise than ours. A program in `benchmarks/peers/programs/`
shows each failure without the suite. `nox -s peers` runs all of it again, but for the group MOD.
"""


def planted() -> dict[str, list[tuple[str, str]]]:
    """Return the planted bugs, and the clauses that find them, by group."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sentence, ids in _all_planted():
        for group in dict.fromkeys(id_.partition("-")[0] for id_ in ids):
            mine = [id_ for id_ in ids if id_.startswith(group)]
            found[group].append((sentence, ", ".join(mine)))
    return found


def _all_planted() -> Iterator[tuple[str, tuple[str, ...]]]:
    # These tests import an example, whose folder is on the path of pytest alone.
    sys.path.insert(0, str(EXAMPLE))
    from conformance.tests import (  # noqa: PLC0415  # as above
        test_faults,
        test_processes,
        test_store_mutants,
        transaction_mutants,
    )

    for mutant in all_mutants():
        yield mutant.sentence, mutant.killed_by
    for store, killed_by in test_faults.KILLED_BY.items():
        yield _sentence(store), killed_by
    for bug, killed_by in test_store_mutants.KILLED_BY.items():
        yield _sentence(bug), killed_by
    for engine, id_ in test_processes.KILLED_BY.items():
        yield _sentence(engine), (id_,)
    killing: dict[type, list[str]] = defaultdict(list)
    for harness, id_ in transaction_mutants.MUTANTS:  # with those of the toolkit
        killing[harness].append(id_)
    for harness, ids in killing.items():
        yield _sentence(harness), tuple(ids)


def _sentence(store: type) -> str:
    """Return what is wrong with a store: its docstring, or its name."""
    said = store.__dict__.get("__doc__")
    return said.strip() if said else f"{store.__name__}."


def load(path: Path, name: str) -> list[Any]:
    """Return the tables of a file."""
    return list(tomllib.loads(path.read_text(encoding="utf-8")).get(name, ()))


def render() -> str:
    """Return the page in Markdown."""
    return "\n".join([_INTRODUCTION, *_groups(), *_random(), *_peers()])


def _groups() -> Iterator[str]:
    bugs = planted()
    runs: Counter[str] = Counter()
    for run in load(HERE / "found.toml", "run"):
        for id_, count in run["clauses"].items():
            runs[id_.partition("-")[0]] += count
    count = len(list(_all_planted()))
    yield f"## By group\n\n{count} planted bugs, and what they are found by.\n"
    yield "| group | clauses | planted bugs | random bugs, by the clause that was first |"
    yield "|---|---|---|---|"
    for group, title in GROUPS.items():
        clauses = sum(one.group == group for one in all_clauses())
        yield f"| {title} | {clauses} | {len(bugs[group])} | {runs[group] or '-'} |"
    for group, title in GROUPS.items():
        if bugs[group]:
            yield f"\n### {group}: {title}\n"
            yield from (f"- {sentence} ({ids})" for sentence, ids in bugs[group])


def _random() -> Iterator[str]:
    yield f"\n{_RANDOM}"
    yield "| code | date | seed | mutants | killed | explained | left alive |"
    yield "|---|---|---|---|---|---|---|"
    for run in load(HERE / "found.toml", "run"):
        killed = run["mutants"] - run["explained"] - run["alive"]
        ran = (run["date"], run["seed"], run["mutants"])
        numbers = (*ran, killed, run["explained"], run["alive"])
        yield f"| {run['part']} | {' | '.join(map(str, numbers))} |"


def _peers() -> Iterator[str]:
    yield f"\n{_PEERS}"
    failures = load(PEERS, "failure")
    for peer in load(PEERS, "peer"):
        mine = [one for one in failures if one["peer"] == peer["name"]]
        yield f"\n### {peer['name']}, {peer['version']}\n"
        yield from (_failure(one) for one in mine)
        if not mine:
            yield "It passes every clause that applies."
        if "note" in peer:
            yield f"\n{peer['note']}"
    yield ""


def _failure(one: dict[str, Any]) -> str:
    now_and_then = ", now and then" if one.get("luck") else ""
    return f"- **{', '.join(one['clauses'])}**{now_and_then}: {one['why']} (`{one['program']}`)"


if __name__ == "__main__":
    print(render(), end="")
