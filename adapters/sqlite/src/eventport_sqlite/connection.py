"""Connections: each an SQLite connection in a thread of its own, and errors turned into ours."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar, cast

from eventport.adapter import Affinity, run_shielded
from eventport.errors import (
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    InvalidArgumentError,
    PayloadTooLargeError,
    StoreClosedError,
    StoreUnavailableError,
)

from eventport_sqlite.database import Call, Database
from eventport_sqlite.fencing import fence_in
from eventport_sqlite.schema import prepare, refuse_foreign
from eventport_sqlite.vendor import ThreadedConnection


P = ParamSpec("P")
T = TypeVar("T")

MEMORY: Final = ":memory:"
"""The name of a database in memory."""

Synchronous: TypeAlias = Literal["full", "normal"]
"""When data is forced to the disk: at each commit, or now and then."""

_OLDEST: Final = (3, 37, 0)  # STRICT tables


class Connection(ThreadedConnection):
    """A connection that runs whole functions in its thread: one hop, however many statements."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        self._affinity = Affinity()
        self._lent = False
        # Not in a forked child, nor in another event loop.
        super().__init__(connector, lambda: self._affinity.check(self))
        self._stopped: asyncio.Future[Any] | None = None

    async def connect(self) -> None:
        """Start the thread and connect; if that fails, the thread has ended when it returns."""
        with translated():
            try:
                await self
            except BaseException:
                # aiosqlite tells its thread to stop, but does not wait for it to do so.
                if self._stopped is not None:
                    await self._stopped
                raise

    def stop(self) -> asyncio.Future[Any] | None:
        """Tell the thread to stop, and return what to wait for until it has."""
        self._stopped = cast("Any", super()).stop()
        return self._stopped

    async def run(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a function in the connection's thread, with the plain connection first.

        A caller that is cancelled stops waiting. If the function has begun, it runs to its end;
        if not, it never begins.
        """
        call = Call()
        try:
            return await self.start(call, lambda db: function(db, *args, **kwargs))
        except asyncio.CancelledError:
            call.give_up()
            raise

    async def run_to_end(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do as `run` does, but let a cancellation go on only when the function has ended.

        If it waits for the write lock then, it ends without having begun its transaction.
        """
        return await self.finish(Call(), lambda db: function(db, *args, **kwargs))

    async def finish(self, call: Call, function: Callable[[Database], T]) -> T:
        """Do as `run_to_end` does with a call that others may give up, too."""
        try:
            return await self.start(call, function)
        except asyncio.CancelledError:
            if not call.give_up():
                # The thread runs one function after the other: this one comes after it. If the
                # connection has been closed meanwhile, that came after it, too.
                with suppress(StoreClosedError):
                    await run_shielded(self.run, _barrier)
            raise

    async def start(self, call: Call, function: Callable[[Database], T]) -> T:
        """Call a function in the connection's thread, unless it is given up before it begins.

        Raises:
            GivenUpError: `give_up` was called in time, and nothing was done.
        """
        self._affinity.check(self)
        db = self.plain
        if db is None:
            raise StoreClosedError("the connection has been closed")

        def perform() -> T:
            database = cast("Database", db)
            database.enter(call)
            return function(database)

        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        call.future = future
        self.post(future, perform)
        # `translated` would do the same, but a generator costs a lone append a twentieth of it.
        try:
            return await future
        except (sqlite3.Error, OverflowError) as exc:
            raise _translate(exc) from exc

    @contextmanager
    def lent(self) -> Generator[None]:
        """Keep handlers, who get this connection in the block, from closing it."""
        self._lent = True
        try:
            yield
        finally:
            self._lent = False

    async def close(self) -> None:
        """Close the connection, unless a handler does so that it was lent to."""
        if self._lent:
            message = "this connection is the store's: a handler must not close it"
            raise InvalidArgumentError(message)
        await super().close()

    def __repr__(self) -> str:
        """Say what it is."""
        return "<a connection to SQLite>"


async def open_connection(
    path: str, synchronous: Synchronous, busy_timeout: float, *, foreign: bool = False
) -> Connection:
    """Open a database, create it if it is new, and refuse it if it is not ours.

    One that may be foreign is taken as it is, and gets no tables.
    """

    def connector() -> sqlite3.Connection:
        return _open(path, synchronous, busy_timeout, foreign=foreign)

    if sqlite3.sqlite_version_info < _OLDEST:
        message = f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed"
        raise ConfigurationError(message)
    _check_path(path)
    connection = Connection(connector)
    await connection.connect()
    return connection


def require_database(path: str) -> None:
    """Raise `ConfigurationError` unless there is a database to open."""
    if path == MEMORY:
        return
    _check_path(path)
    try:
        found = Path(path).stat().st_size > 0
    except FileNotFoundError:
        found = False
    if not found:
        message = f"{path} does not exist or is empty: check the name, or let it be created"
        raise ConfigurationError(message)


@contextmanager
def translated() -> Generator[None]:
    """Turn the errors of `sqlite3` into those of eventport."""
    try:
        yield
    except (sqlite3.Error, OverflowError) as exc:
        raise _translate(exc) from exc


def _barrier(_: Database) -> None:
    """Do nothing: once it has run, everything queued before it has run."""


def _translate(exc: sqlite3.Error | OverflowError) -> EventportError:
    if isinstance(exc, OverflowError):  # an int, text or blob beyond what the C interface can take
        return PayloadTooLargeError(str(exc))
    code = _primary_code(exc)
    if code == sqlite3.SQLITE_CONSTRAINT and (fence := fence_in(exc)) is not None:
        return fence
    if code == sqlite3.SQLITE_TOOBIG:
        return PayloadTooLargeError(f"SQLite refuses an event of this size: {exc}")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreUnavailableError(
            f"another connection held the write lock for longer than busy_timeout: {exc}"
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}:
        return IncompatibleStoreError(
            f"the database is damaged, or its tables are not those of eventport: {exc}"
        )
    return StoreUnavailableError(f"SQLite: {exc}")


def _primary_code(exc: BaseException) -> int | None:
    """Return SQLite's result code without the details in its upper bits."""
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _check_path(path: str) -> None:
    """Find what is wrong with a file before SQLite does, whose message is always the same."""
    if path == MEMORY:
        return
    file = Path(path)
    try:
        if "\0" in path or not os.fsencode(path):
            message = f"{path!r} cannot be the name of a file"
        elif file.is_dir():
            message = f"{path} is a directory: name a file in it"
        elif not file.absolute().parent.is_dir():
            message = f"the directory of {path} does not exist: create {file.absolute().parent}"
        elif not file.exists():
            return
        elif not file.is_file():
            message = f"{path} is not a regular file: name one"
        # The mode is read because root may write to anything.
        elif not file.stat().st_mode & 0o222:
            message = f"{path} is read-only: an event store needs to write to it"
        else:
            return
    except (OSError, UnicodeEncodeError) as exc:
        message = f"{path!r} cannot be opened: {exc}"
        raise ConfigurationError(message) from exc
    raise ConfigurationError(message)


def _open(
    path: str, synchronous: Synchronous, busy_timeout: float, *, foreign: bool
) -> sqlite3.Connection:
    db: Database | None = None
    try:
        if path != MEMORY and not foreign:
            refuse_foreign(path)
        # An absolute path is never taken for a URI, which some builds of SQLite look for.
        name = path if path == MEMORY else Path(path).absolute()
        db = sqlite3.connect(name, timeout=busy_timeout, isolation_level=None, factory=Database)
        if not foreign:
            prepare(db, path)
        if path != MEMORY:
            _use_wal(db, path, busy_timeout)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if synchronous == "full":
            # Only macOS, whose plain sync does not reach the disk, knows the difference.
            db.execute("PRAGMA fullfsync = ON")
        db.settle(None if path == MEMORY else Path(path).absolute(), busy_timeout)
    except BaseException as exc:
        if db is not None:
            db.close()
        if _primary_code(exc) in {
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PERM,
        }:
            message = f"{path} cannot be opened for writing: {exc}"
            raise ConfigurationError(message) from exc
        raise
    return db


def _use_wal(db: sqlite3.Connection, path: str, busy_timeout: float) -> None:
    """Switch to the write-ahead log, in which readers and the writer do not block each other."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            mode: str = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as exc:
            # The switch needs the file for itself, and does not wait for it as commits do.
            if _primary_code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode == "wal":
                return
            message = f"{path} cannot have a write-ahead log (mode {mode}): put it on a local disk"
            raise ConfigurationError(message)
