"""A server that speaks MongoDB's wire protocol, run as a process of its own by the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from pymongo import AsyncMongoClient

from eventport_conformance.waiting import HANG_SECONDS


PACKAGE: Final = "secantusdb==0.7.0b3"
"""Where the server is from. It runs in an environment of its own and is never imported."""

START_SECONDS: Final = 180.0
"""How long the first start may take, in which the environment is made."""


class WireServer:
    """A server on a free port of this machine, with its data in a folder.

    Args:
        folder: Where its data and its log are; it survives a restart.
        options: Further options of its command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mongodb://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of the server's own process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command(), "--port", str(self.port), *self._storage(), *self._options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                text = log.read_text(errors="replace")
                message = f"the wire server did not start:\n{text[-4000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def stop(self) -> None:
        """Let it end in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(HANG_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(HANG_SECONDS)
            self._process = None

    def _storage(self) -> Sequence[str]:
        return ("--storage-path", str(self._folder / "data"))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


def with_database(url: str, name: str) -> str:
    """Return a server's URL with a database in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


@asynccontextmanager
async def new_database(server: str) -> AsyncGenerator[str, None]:
    """Give the URL of a new database on a server, and drop it in the end."""
    url = with_database(server, f"eventport_{uuid4().hex[:16]}")
    async with AsyncMongoClient[Any](url) as client:
        database = client.get_default_database()
        if "EVENTPORT_TEST_MONGODB_URL" not in os.environ:
            # mongod goes through a range of positions by the index that every collection has. The
            # wire server would read the whole collection, but knows how to use any other index.
            await database["events"].create_index([("_id", 1), ("version", 1)], name="range")
        yield url
        await client.drop_database(database.name)


def command() -> list[str]:
    """Return how to start the server: the interpreter of its environment, so it is one process."""
    uv = [sys.executable, "-m", "uv", "--quiet", "tool", "run", "--from", PACKAGE]
    found = subprocess.run(
        [*uv, "python", "-c", "import sys; print(sys.executable)"],
        check=False,
        capture_output=True,
        text=True,
    )
    if found.returncode != 0:
        message = f"{PACKAGE} cannot be installed:\n{found.stderr}"
        raise RuntimeError(message)
    return [found.stdout.strip(), "-c", "from secantus.cli import main; main()"]
