"""Mutation testing of the real code: random mutants, with the conformance suite alone as judge.

Run as ``python -m conformance.mutation.run PART ... --count N --seed N``. It prints each mutant
that survives, with its diff, and fails if fewer than 95 % are killed of those that are not known
to be equivalent.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any, Final

from conformance.mutation.sources import SourceMutant, sample


ROOT: Final = Path(__file__).parents[2]
EXPLAINED: Final = Path(__file__).parent / "survivors.toml"
FOUND: Final = Path(__file__).parent / "found.toml"
GOAL: Final = 0.95
SILENCE: Final = 660.0
"""After how many seconds without a line a mutant hangs; it is beyond any patience."""


@dataclass(frozen=True)
class Part:
    """Code that is mutated, and the harnesses that judge it."""

    package: str
    """The folder of the package, which is copied for each mutant."""
    files: str
    """A pattern in that folder."""
    judges: tuple[str, ...]

    def paths(self) -> list[Path]:
        """Return the files that the suite can judge."""
        found = (ROOT / self.package).glob(self.files)
        return [one for one in found if not one.name.startswith(BEYOND)]


BEYOND: Final = ("inline", "joined", "projections", "plugin", "schema")
"""Files whose names begin so are about more than the port, which is all that the suite knows."""

PARTS: Final = {
    "core": Part("src/eventport", "_engine/*.py", ("memory", "hard", "socket", "sqlite")),
    "memory": Part("adapters/memory/src/eventport_memory", "*.py", ("memory",)),
    "sqlite": Part("adapters/sqlite/src/eventport_sqlite", "*.py", ("sqlite",)),
    "postgres": Part("adapters/postgres/src/eventport_postgres", "*.py", ("postgres",)),
}


@dataclass
class Verdict:
    """What the suite found."""

    mutant: SourceMutant
    killed_by: str = ""
    """The clause, or how else it failed."""
    why: str = ""


@dataclass
class Judge:
    """Runs the suite, the clauses first that have killed most."""

    part: Part
    kills: Counter[str] = field(default_factory=Counter[str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def judge(self, mutant: SourceMutant) -> Verdict:
        """Run the suite on a mutant, until a clause fails."""
        verdict = Verdict(mutant)
        with TemporaryDirectory() as folder:
            package = ROOT / self.part.package
            copy = Path(folder, package.name)
            shutil.copytree(package, copy)
            (copy / mutant.path.relative_to(package)).write_text(mutant.text, encoding="utf-8")
            done: set[str] = set()
            for name in self.part.judges:
                verdict.killed_by, verdict.why = self.run_on(name, folder, done)
                if verdict.killed_by:
                    self.kills[verdict.killed_by.rpartition(" ")[2]] += 1
                    break
        return verdict

    def run_on(self, harness: str, folder: str, done: set[str]) -> tuple[str, str]:
        """Run one harness; return what killed the mutant, and why, or nothing."""
        script = [sys.executable, "-m", "conformance.mutation.trial", harness]
        places = [folder, os.environ.get("PYTHONPATH", "")]
        given = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
        with subprocess.Popen(  # noqa: S603  # our own script
            script,
            cwd=ROOT,
            env=given,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            applying = _line(process)
            if applying is None:
                return f"{harness}: start", "it cannot be imported"
            # A harness that is hard on paging runs again what others have passed.
            wanted = [one for one in applying if harness == "hard" or one not in done]
            wanted.sort(key=lambda one: (-self.kills[one], self.seconds.get(one, 1.0)))
            _tell(process, wanted)
            for id_ in wanted:
                found = _line(process)
                if found is None:
                    return f"{harness}: {id_}", "it hangs, or has ended the process"
                _, result, seconds, reason = found
                if result != "held":
                    return f"{harness}: {id_}", reason
                self.seconds[id_] = seconds
            done.update(wanted)
        return "", ""


def _tell(process: subprocess.Popen[str], value: object) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(value) + "\n")
            process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> Any:
    """Wait for a line; None if the process has ended, or was killed because it hangs."""
    timer = Timer(SILENCE, process.kill)
    timer.start()
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
    finally:
        timer.cancel()
    return json.loads(line) if line.endswith("\n") else None


def explained() -> dict[tuple[str, str, str], str]:
    """Return why some mutants survive, by file and change."""
    value = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    return {
        (one["file"], one["old"].strip(), one["new"].strip()): one["why"]
        for one in value["survivor"]
    }


def key_of(mutant: SourceMutant) -> tuple[str, str, str]:
    """Return by what a mutant is known."""
    return (str(mutant.path.relative_to(ROOT)), *mutant.change)


def run(name: str, count: int, seed: int, workers: int, only: str = "") -> list[Verdict]:
    """Judge some mutants of a part."""
    part = PARTS[name]
    paths = [one for one in part.paths() if only in str(one)]
    judge = Judge(part)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        done: set[str] = set()
        for harness in part.judges:  # the code as it is passes, or nothing is proved
            failed, why = judge.run_on(harness, folder, done)
            if failed:
                message = f"the code as it is fails {failed}: {why}"
                raise SystemExit(message)
        verdicts: list[Verdict] = []
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        judging = [pool.submit(judge.judge, one) for one in sample(paths, count, seed)]
        for done_ in as_completed(judging):
            verdicts.append(done_.result())
            _say(verdicts[-1])
    return verdicts


def _say(verdict: Verdict) -> None:
    name = verdict.mutant.name.removeprefix(f"{ROOT}/")
    print(f"{verdict.killed_by or 'SURVIVES':20} {name}  {verdict.why[:90]}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants of some parts, and return 1 if too few are killed."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all but postgres if none")
    parser.add_argument("--count", type=int, default=40, help="how many of each part")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="write what was found to found.toml")
    parser.add_argument("--only", default="", help="only files whose path holds this")
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}")
    verdicts: list[Verdict] = []
    for name in asked.parts or ["core", "memory", "sqlite"]:
        found = run(name, asked.count, asked.seed, asked.workers, asked.only)
        if asked.record:
            record(name, asked.seed, found)
        verdicts += found
    return report(verdicts)


def record(part: str, seed: int, verdicts: Sequence[Verdict]) -> None:
    """Write down which clauses have found how many mutants, for the page of the proof."""
    known = explained()
    killed = Counter(one.killed_by.rpartition(" ")[2] for one in verdicts if one.killed_by)
    alive = [key_of(one.mutant) in known for one in verdicts if not one.killed_by]
    with FOUND.open("a", encoding="utf-8") as file:
        file.write(
            f'\n[[run]]\npart = "{part}"\nseed = {seed}\nmutants = {len(verdicts)}\n'
            f"explained = {sum(alive)}\nalive = {len(alive) - sum(alive)}\n[run.clauses]\n"
        )
        for id_, count in sorted(killed.items()):
            file.write(f"{id_} = {count}\n")


def report(verdicts: Sequence[Verdict]) -> int:
    """Print what survives, and return 1 if that is too much."""
    known = explained()
    alive = [one for one in verdicts if not one.killed_by]
    equivalent = [one for one in alive if key_of(one.mutant) in known]
    holes = [one for one in alive if key_of(one.mutant) not in known]
    for one in equivalent:
        print(f"\nexplained: {one.mutant.diff}\n  {known[key_of(one.mutant)]}")
    for one in holes:
        print(f"\nSURVIVES: {one.mutant.diff}")
    killed, of = len(verdicts) - len(alive), len(verdicts) - len(equivalent)
    share = killed / of if of else 1.0
    print(f"\nkilled {killed} of {of} ({share:.1%}); {len(equivalent)} more are explained")
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
