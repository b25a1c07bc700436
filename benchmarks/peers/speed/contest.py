"""Measures peers' stores and ours in turns, each in an environment of its own; writes JSON.

`nox -s contest` runs it, with `--quick` for fewer rounds. A peer that cannot be installed or
started here is named in the result, and the others go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from adapters.postgres.tests.server import running_server  # what the tests start, too


HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]


class Peer(NamedTuple):
    """One contestant."""

    name: str
    group: str
    """Only members of a group are compared: they have the same durability and disk."""
    worker: str
    packages: tuple[str, ...]
    """What is installed for it; nothing for ourselves."""
    where: str
    """The place that its worker is given: `postgres`, `sqlite` or `umadb`."""
    mode: str = ""


PEERS: Final = (
    Peer("eventport", "server", "eventport_worker.py", (), "postgres"),
    *(
        Peer(
            f"eventsourcing, {what}",
            "server",
            "eventsourcing_worker.py",
            ("eventsourcing[postgres]==9.5.6",),
            "postgres",
            mode,
        )
        for what, mode in (("LOCK TABLE", "lock"), ("db functions", "functions"))
    ),
    Peer(
        "eventsource-py",
        "server",
        "eventsource_worker.py",
        ("eventsource-py[postgresql]==0.15.1", "greenlet"),
        "postgres",
    ),
    Peer(
        "Emmett",
        "server",
        "emmett_worker.mjs",
        ("@event-driven-io/emmett-postgresql@0.42.0",),
        "postgres",
    ),
    Peer("UmaDB", "server", "umadb_worker.py", ("umadb==0.7.8",), "umadb"),
    Peer("eventport", "SQLite", "eventport_worker.py", (), "sqlite"),
    Peer(
        "eventsourcing",
        "SQLite",
        "eventsourcing_worker.py",
        ("eventsourcing==9.5.6",),
        "sqlite",
        "sqlite",
    ),
)

SHAPES: Final = {
    "append 1, 1 task": ("append 1 1", 100),
    "append 1, 64 tasks": ("append 64 1", 1_280),
    "append 1, 256 tasks": ("append 256 1", 2_560),
    "append 100, 1 task": ("append 1 100", 20),
    "read 1,000": ("read", 20),
}
SLOW: Final = 1.5
"""A round is made shorter until it takes no contestant longer than so many seconds."""


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, peer: Peer, command: list[str]) -> None:
        self.peer = peer
        self.seen: dict[str, list[float]] = {shape: [] for shape in SHAPES}
        self.sizes = {shape: size for shape, (_, size) in SHAPES.items()}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
        )
        if self._line() != "ready":
            message = f"{peer.name} has not started"
            raise RuntimeError(message)

    def play(self, shape: str) -> float:
        """Make a round, and return how many things it did in a second."""
        command, _ = SHAPES[shape]
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {self.sizes[shape]}\n")
        self._process.stdin.flush()
        answer = self._line().split()
        if len(answer) != 2:
            message = f"{self.peer.name} has ended during {shape}"
            raise RuntimeError(message)
        done, seconds = map(float, answer)
        if seconds > SLOW:
            tasks = int(command.split()[1]) if command != "read" else 1
            self.sizes[shape] = max(tasks, int(self.sizes[shape] * SLOW / seconds))
        return done / seconds

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def installed(peer: Peer, cache: Path) -> list[str]:
    """Return what runs a peer's worker, in an environment that has it."""
    if not peer.packages:
        return [sys.executable, str(HERE / peer.worker)]
    folder = folder_of(peer, cache)
    done = folder / "installed"
    if peer.worker.endswith(".mjs"):
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text("{}", encoding="utf-8")
            subprocess.run(["npm", "install", "--silent", *peer.packages], cwd=folder, check=True)
            done.touch()
        return ["node", str(HERE / peer.worker)]
    if not done.exists():
        subprocess.run(["uv", "venv", "-q", "-c", "-p", python_of(peer), str(folder)], check=True)
        command = ["uv", "pip", "install", "-q", "-p", str(folder / "bin/python"), *peer.packages]
        subprocess.run(command, check=True)
        done.touch()
    return [str(folder / "bin/python"), str(HERE / peer.worker)]


def folder_of(peer: Peer, cache: Path) -> Path:
    """Return the folder of a peer's environment."""
    return cache / re.sub(r"[^a-z0-9.]+", "-", peer.packages[0]).strip("-")


def python_of(peer: Peer) -> str:
    """Return which Python a peer needs: this one, unless the environment names another."""
    return os.environ.get(
        "EVENTPORT_PYTHON_" + peer.worker.partition("_")[0].upper(), sys.executable
    )


@contextmanager
def umadb(peer: Peer, cache: Path, folder: Path) -> Generator[str]:
    """Run the server of UmaDB, with its defaults."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(folder_of(peer, cache) / "bin/umadb"), "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        [*command, "--db-path", str(folder / "uma.db")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        yield f"http://127.0.0.1:{port}"
        process.kill()


async def settings_of(url: str) -> dict[str, str]:
    """Return what the servers say of their durability."""
    connection = await asyncpg.connect(url)
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
    found = {name: str(await connection.fetchval("SHOW " + name)) for name in names}
    await connection.close()
    return {**found, "SQLite": f"{sqlite3.sqlite_version}, write-ahead log, synchronous=full"}


def measure(workers: list[Worker], rounds: int, missing: dict[str, str]) -> None:
    """Let all take turns; each round begins with another one. Who fails is out of it."""
    for shape in SHAPES:
        for worker in tuple(workers):
            try:
                worker.play(shape)  # it warms up, and finds the size of a round
            except RuntimeError as exc:
                missing[worker.peer.name] = str(exc)
                workers.remove(worker)
                worker.end()
        for number in range(rounds):
            first = number % len(workers)
            for worker in [*workers[first:], *workers[:first]]:
                worker.seen[shape].append(worker.play(shape))


def result_of(worker: Worker) -> dict[str, Any]:
    """Return what is kept of a contestant."""
    rates = {
        shape: {
            "median": statistics.median(values),
            "low": statistics.quantiles(values, n=4)[0],
            "high": statistics.quantiles(values, n=4)[2],
        }
        for shape, values in worker.seen.items()
    }
    peer = worker.peer
    return {"name": peer.name, "group": peer.group, "packages": peer.packages, "rates": rates}


def main(arguments: list[str]) -> None:
    """Measure all, and write the result to the file that is named, or to `results.json`."""
    rounds = 4 if "--quick" in arguments else 11
    names = [argument for argument in arguments if not argument.startswith("-")]
    cache = Path(os.environ.get("EVENTPORT_PEERS", ROOT / ".nox/peers-speed"))
    results, missing = list[Mapping[str, Any]](), dict[str, str]()
    with tempfile.TemporaryDirectory() as name, running_server() as server, ExitStack() as stack:
        folder = Path(name)
        places = {"postgres": server.url, "sqlite": ""}
        settings = asyncio.run(settings_of(server.url))
        for group in ("server", "SQLite"):
            workers: list[Worker] = []
            for peer in (one for one in PEERS if one.group == group):
                try:
                    command = installed(peer, cache)
                    if peer.where == "umadb":
                        places["umadb"] = stack.enter_context(umadb(peer, cache, folder))
                    place = places[peer.where]
                    if peer.where == "sqlite":
                        prefix = "sqlite:///" if not peer.packages else ""
                        place = f"{prefix}{folder / (peer.name + '.db')}"
                    more = [peer.mode] if peer.mode else []
                    if peer.worker.endswith(".mjs"):
                        more = [str(folder_of(peer, cache))]
                    workers.append(Worker(peer, [*command, place, *more]))
                except subprocess.CalledProcessError:  # its text names this machine's folders
                    missing[peer.name] = "it could not be installed on this Python"
                except (OSError, RuntimeError) as exc:
                    missing[peer.name] = str(exc)
            try:
                measure(workers, rounds, missing)
            finally:
                for worker in workers:
                    worker.end()
            results += [result_of(worker) for worker in workers]
    found = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "settings": settings,
        "rounds": rounds,
        "results": results,
        "missing": missing,
    }
    file = Path(names[0]) if names else HERE / "results.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
