"""Connections: each an SQLite connection in a thread of its own, and errors turned into ours."""

from __future__ import annotations

import sqlite3
import time

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar

import aiosqlite

from eventport.errors import (
    ConfigurationError,
    EventportError,
    PayloadTooLargeError,
    StoreUnavailableError,
)

from eventport_sqlite.schema import prepare


P = ParamSpec("P")
T = TypeVar("T")

MEMORY: Final = ":memory:"
"""The name of a database in memory."""

Synchronous: TypeAlias = Literal["full", "normal"]
"""When the operating system is made to write: at each commit, or now and then."""

_OLDEST: Final = (3, 37, 0)  # STRICT tables


class Connection(aiosqlite.Connection):
    """A connection that runs whole functions in its thread: one hop, however many statements."""

    async def run(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a function in the connection's thread, with the plain connection first.

        A caller who is cancelled stops waiting, but the function runs to its end.
        """
        with translated():
            result: T = await self._execute(function, self._conn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return result


async def open_connection(path: str, synchronous: Synchronous, busy_timeout: float) -> Connection:
    """Open a database, create it if it is new, and refuse it if it is not ours."""

    def connector() -> sqlite3.Connection:
        return _open(path, synchronous, busy_timeout)

    if sqlite3.sqlite_version_info < _OLDEST:
        message = f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed"
        raise ConfigurationError(message)
    _check_path(path)
    connection = Connection(connector, iter_chunk_size=64)
    with translated():
        await connection
    return connection


@contextmanager
def translated() -> Generator[None]:
    """Turn the errors of `sqlite3` into those of eventport."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _translate(exc) from exc
    except OverflowError as exc:  # an int, text or blob beyond what the C interface can take
        raise PayloadTooLargeError(str(exc)) from exc


def _translate(exc: sqlite3.Error) -> EventportError:
    code = getattr(exc, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_TOOBIG or isinstance(exc, sqlite3.DataError):
        return PayloadTooLargeError(f"SQLite refuses an event of this size: {exc}")
    if code is not None and code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreUnavailableError(
            f"another connection held the write lock for longer than busy_timeout: {exc}"
        )
    return StoreUnavailableError(f"SQLite: {exc}")


def _check_path(path: str) -> None:
    """Find what is wrong with a file before SQLite does, which says the same of all of it."""
    if path == MEMORY:
        return
    file = Path(path)
    if "\0" in path:
        message = f"{path!r} cannot be the name of a file"
    elif file.is_dir():
        message = f"{path} is a directory: name a file in it"
    elif not file.absolute().parent.is_dir():
        message = f"the directory of {path} does not exist: create {file.absolute().parent}"
    # The mode is asked for the sake of root, who may write to anything.
    elif file.exists() and not file.stat().st_mode & 0o222:
        message = f"{path} is read-only: an event store needs to write to it"
    else:
        return
    raise ConfigurationError(message)


def _open(path: str, synchronous: Synchronous, busy_timeout: float) -> sqlite3.Connection:
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
        prepare(db, path)
        if path != MEMORY:
            _use_wal(db, path, busy_timeout)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException as exc:
        if db is not None:
            db.close()
        code: Any = getattr(exc, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in {
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
        except sqlite3.OperationalError:
            # The switch needs the file for itself, and does not wait for it as commits do.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode == "wal":
                return
            message = f"{path} cannot have a write-ahead log (mode {mode}): put it on a local disk"
            raise ConfigurationError(message)
