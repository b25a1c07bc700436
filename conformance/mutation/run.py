"""Mutation testing of the real code: random mutants, with the conformance suite alone as judge.

Run as ``python -m conformance.mutation.run PART ... --count N --seed N``. It prints each mutant
that survives, with its diff, and fails if fewer than 95 % are killed of those that are not known
to be equivalent.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import tomllib

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self, TypeAlias

from conformance.mutation import trial
from conformance.mutation.sources import SourceMutant, sample


ROOT: Final = Path(__file__).parents[2]
EXPLAINED: Final = Path(__file__).parent / "survivors.toml"
FOUND: Final = Path(__file__).parent / "found.toml"
GOAL: Final = 0.95
LEAST_SECONDS: Final = 10.0
FACTOR: Final = 10
"""A clause may take that long on a mutant, and so many times what it usually takes."""
LONGEST_SECONDS: Final = 660.0
"""How long a clause may take while nobody knows what is usual."""
STOP_SECONDS: Final = 20.0
"""How long a clause may take to end after it was cancelled."""


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
class Usual:
    """What a clause does on the code as it is."""

    seconds: float
    lines: dict[str, set[int]]
    """Which lines of which files of the part it runs."""

    @property
    def limit(self) -> float:
        """How many seconds it may take on a mutant: far more than it usually does here."""
        return LEAST_SECONDS + FACTOR * self.seconds


Found = tuple[str, str]
"""What killed a mutant, and why; nothing if it lives."""
_ALIVE: Final[Found] = ("", "")


@dataclass
class Judge:
    """Runs the clauses that reach a mutant, those first that have killed most."""

    part: Part
    data: str = ""
    """The folder of the server, if the part needs one."""
    kills: Counter[str] = field(default_factory=Counter[str])
    usual: dict[tuple[str, str], Usual] = field(default_factory=dict[tuple[str, str], Usual])
    """By harness and clause."""

    def learn(self) -> None:
        """Run everything on the code as it is: it passes, or nothing is proved."""
        done: set[str] = set()
        with self._copy() as copy:
            for harness in self.part.judges:
                with _Trial(harness, copy, self.data, traced=True) as running:
                    # A harness that is hard on paging runs again what others have passed.
                    ids = [id_ for id_ in running.start() if harness == "hard" or id_ not in done]
                    failed = running.run([(id_, LONGEST_SECONDS) for id_ in ids])
                if failed != _ALIVE or not ids:
                    message = f"the code as it is fails {failed}"
                    raise SystemExit(message)
                for id_, seconds, lines in running.held:
                    run = {name: set(numbers) for name, numbers in lines.items()}
                    self.usual[harness, id_] = Usual(seconds, run)
                done.update(ids)
                print(f"{harness}: {len(ids)} clauses", flush=True)

    def judge(self, mutant: SourceMutant) -> Verdict:
        """Run the suite on a mutant, until a clause fails."""
        name = str(mutant.path.relative_to(ROOT / self.part.package))
        reached = False
        for harness in self.part.judges:
            reaching = [
                id_
                for (one, id_), usual in self.usual.items()
                if one == harness and usual.lines.get(name, set()) & set(mutant.statement)
            ]
            found = self._run(harness, mutant, reaching) if reaching else _ALIVE
            if found != _ALIVE:
                self.kills[found[0].rpartition(" ")[2]] += 1
                return Verdict(mutant, *found)
            reached = reached or bool(reaching)
        return Verdict(mutant, why="" if reached else "no clause reaches it")

    def _run(self, harness: str, mutant: SourceMutant, reaching: list[str]) -> Found:
        """Run clauses on a mutant; one that takes too long is compared with the code as it is."""
        reaching.sort(key=lambda id_: (-self.kills[id_], self.usual[harness, id_].seconds))
        while True:
            limits = [(id_, self.usual[harness, id_].limit) for id_ in reaching]
            with self._copy(mutant) as copy, _Trial(harness, copy, self.data) as running:
                found = running.start_and_run(limits)
            late = next((one for one in limits if one[0] == running.late), None)
            if late is None:
                return found
            with self._copy() as copy, _Trial(harness, copy, self.data) as running:
                if running.start_and_run([late]) == _ALIVE:
                    return found
            self.usual[harness, late[0]].seconds *= 2  # the machine is slower than it was

    @contextmanager
    def _copy(self, mutant: SourceMutant | None = None) -> Generator[Path]:
        """Give a folder with the package of the part, and a mutant in it."""
        package = ROOT / self.part.package
        with TemporaryDirectory() as folder:
            copy = Path(folder, package.name)
            shutil.copytree(package, copy)
            if mutant is not None:
                (copy / mutant.path.relative_to(package)).write_text(mutant.text, encoding="utf-8")
            yield copy


class _Trial:
    """A process that runs clauses of one harness on a copy of a package."""

    def __init__(self, harness: str, copy: Path, data: str, *, traced: bool = False) -> None:
        self.harness = harness
        self.held: list[tuple[str, float, dict[str, list[int]]]] = []
        """What has passed, in how many seconds, and what was run for it."""
        self.late = ""
        """The clause that took too long."""
        self._pipe, theirs = trial.PROCESSES.Pipe()
        self._process = trial.PROCESSES.Process(
            target=trial.main, args=(theirs, harness, str(copy), data), kwargs={"traced": traced}
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it does."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def start(self) -> list[str]:
        """Return the ids of the clauses that apply; none if it does not get that far."""
        return self._received(LONGEST_SECONDS) or []

    def start_and_run(self, limits: Sequence[tuple[str, float]]) -> Found:
        """Run clauses until one fails, or takes longer than its limit in seconds."""
        if not self.start():
            return f"{self.harness}: start", "it cannot be imported"
        return self.run(limits)

    def run(self, limits: Sequence[tuple[str, float]]) -> Found:
        """Run clauses, once it has started."""
        with suppress(BrokenPipeError):
            self._pipe.send(limits)
        for id_, limit in limits:
            # The clause is cancelled after its limit; what cannot be cancelled, a while later.
            started = time.monotonic()
            found = self._received(limit + STOP_SECONDS)
            if (found is None or found[0] != "held") and time.monotonic() - started >= limit:
                self.late = id_
            if found is None:
                return f"{self.harness}: {id_}", "it hangs, or has ended the process"
            result, seconds, reason, lines = found
            if result != "held":
                return f"{self.harness}: {id_}", reason
            self.held.append((id_, seconds, lines))
        return _ALIVE

    def _received(self, seconds: float) -> Any:
        """Wait for an answer; None if the process has ended, or it does not come in time."""
        with suppress(EOFError, ConnectionResetError):
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        return None


Key: TypeAlias = tuple[str, str, str, str]
"""By what a mutant is known: its file, its function, and the lines that go and come."""


def explained() -> dict[Key, str]:
    """Return why some mutants survive."""
    value = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    return {
        (one["file"], one["function"], one["old"].strip(), one["new"].strip()): one["why"]
        for one in value["survivor"]
    }


def key_of(mutant: SourceMutant) -> Key:
    """Return by what a mutant is known."""
    return (str(mutant.path.relative_to(ROOT)), mutant.function, *mutant.change)


def run(name: str, asked: argparse.Namespace) -> list[Verdict]:
    """Judge some mutants of a part; those that are explained live, and need no judge."""
    part = PARTS[name]
    known = explained()
    paths = [one for one in part.paths() if asked.only in str(one)]
    verdicts: list[Verdict] = []
    with server_for(part) as data:
        judge = Judge(part, data)
        judge.learn()
        ends = time.monotonic() + 60 * asked.minutes
        for mutant in sample(paths, asked.count, asked.seed):
            if time.monotonic() < ends:
                why = known.get(key_of(mutant))
                verdicts.append(judge.judge(mutant) if why is None else Verdict(mutant, why=why))
                _say(verdicts[-1])
    return verdicts


@contextmanager
def server_for(part: Part) -> Generator[str]:
    """Run the server that a part needs; give its folder, or nothing."""
    if "postgres" not in part.judges:
        yield ""
        return
    with import_module("adapters.postgres.tests.server").running_server("fsync = off\n") as server:
        yield str(server.folder)


def _say(verdict: Verdict) -> None:
    name = verdict.mutant.name.removeprefix(f"{ROOT}/")
    print(f"{verdict.killed_by or 'SURVIVES':20} {name}  {verdict.why[:90]}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants of some parts, and return 1 if too few are killed."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all but postgres if none")
    parser.add_argument("--count", type=int, default=40, help="how many of each part")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--minutes", type=float, default=600, help="begin none after that, a part")
    parser.add_argument("--record", action="store_true", help="write what was found to found.toml")
    parser.add_argument("--only", default="", help="only files whose path holds this")
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}")
    verdicts: list[Verdict] = []
    for name in asked.parts or ["core", "memory", "sqlite"]:
        found = run(name, asked)
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
            f'\n[[run]]\npart = "{part}"\ndate = {datetime.now(UTC):%Y-%m-%d}\n'
            f"seed = {seed}\nmutants = {len(verdicts)}\n"
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
