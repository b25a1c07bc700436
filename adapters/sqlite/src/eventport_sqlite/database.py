"""The plain connection in a thread: its file must stay in place, and waiting can be given up."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from eventport.errors import StoreUnavailableError


_SLICE: Final = 50
"""Milliseconds that SQLite waits for a lock before the call checks whether to go on."""


class GivenUpError(Exception):
    """Nobody waits for a call any more, and nothing of it was done."""


class Call:
    """One function on its way through a connection's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self.future: asyncio.Future[Any] | None = None
        """What its caller waits for."""
        self.given_up = False
        """Whether nobody waits for it any more; then a wait for a lock may end."""

    def begin(self) -> None:
        """Begin, or raise `GivenUpError` if it was given up before."""
        with self._lock:
            if self.given_up:
                raise GivenUpError
            self._begun = True

    def give_up(self) -> bool:
        """Keep it from beginning, or let its wait end; return whether it never begins."""
        with self._lock:
            self.given_up = True
            begun = self._begun
        if not begun and self.future is not None and not self.future.done():
            self.future.set_exception(GivenUpError())
        return not begun


class Database(sqlite3.Connection):
    """A connection to a file, or to a database in memory.

    SQLite goes on writing to a file that was removed or moved, where no other connection ever
    looks. So the file is compared with the one that was opened before and after each commit.
    """

    _file: str | None = None
    _identity: tuple[int, int] | None = None
    _busy_timeout: float = 0.0
    _patience: int = -1
    _call: Call | None = None

    def settle(self, file: Path | None, busy_timeout: float) -> None:
        """Remember the file that has just been opened, and how long commits wait."""
        self._busy_timeout = busy_timeout
        if file is not None:
            self._file = str(file)
            self._identity = _identity(self._file)

    def enter(self, call: Call) -> None:
        """Begin a call."""
        call.begin()
        self._call = call

    def begin(self) -> None:
        """Begin a transaction that writes.

        Raises:
            GivenUpError: its caller gave up while it waited for the lock.
        """
        # IMMEDIATE: a transaction that begins by reading cannot wait for the lock later.
        self.when_free("BEGIN IMMEDIATE")
        self._wait_for(int(self._busy_timeout * 1_000))

    def when_free(
        self, statement: str, values: Sequence[object] = ()
    ) -> tuple[sqlite3.Cursor, list[Any]]:
        """Run what needs the write lock from its beginning, as often as others hold the lock.

        The rows that it gives are fetched, so that it has ended.

        Raises:
            GivenUpError: its caller gave up while it waited for the lock.
        """
        # An interrupt does not reach SQLite while it waits for a lock, so it waits in slices.
        deadline = time.monotonic() + self._busy_timeout
        self._wait_for(min(_SLICE, int(self._busy_timeout * 1_000)))
        while True:
            if self._call is not None and self._call.given_up:
                raise GivenUpError
            try:
                cursor = self.execute(statement, values)
                return cursor, cursor.fetchall()
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise

    def _wait_for(self, milliseconds: int) -> None:
        """Set for how long SQLite waits for a lock."""
        if milliseconds != self._patience:
            self.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._patience = milliseconds

    def commit(self) -> None:
        """Commit, if the file is in place.

        Raises:
            StoreUnavailableError: the file was removed or moved.
        """
        self.require_file()
        super().commit()
        self.confirm_file()

    def confirm_file(self) -> None:
        """Raise `StoreUnavailableError` if the file was not in its place at a commit."""
        if self._is_gone():
            message = (
                f"{self._file} was removed or moved while a commit was written to it, so it is "
                "not known whether it is in the file: open the store again where the file is"
            )
            raise StoreUnavailableError(message)

    def require_file(self) -> None:
        """Raise `StoreUnavailableError` if the file is not in its place any more."""
        if self._is_gone():
            message = (
                f"{self._file} is not the file that was opened: it was removed, moved or replaced; "
                "nothing was written: put it back, or open the store again"
            )
            raise StoreUnavailableError(message)

    def _is_gone(self) -> bool:
        return self._file is not None and _identity(self._file) != self._identity


def _identity(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116  # it costs half of what Path.stat does
    except OSError:
        return None
    return found.st_dev, found.st_ino
