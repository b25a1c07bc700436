"""Inline handlers: what runs in the open transaction of a commit, and writes there."""

from __future__ import annotations

import sqlite3
import time

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiosqlite

from anyio import Lock

from eventport.adapter import (
    Commit,
    Committed,
    Failed,
    InlineHandlers,
    Outcome,
    call_inline,
    new_events,
    run_shielded,
)
from eventport.errors import InlineProjectionError
from eventport.events import RecordedEvent
from eventport.transactions import InlineHandler, Transaction

from eventport_sqlite.connection import Connection
from eventport_sqlite.database import Call, Database
from eventport_sqlite.documents import documents_on
from eventport_sqlite.lending import run_on
from eventport_sqlite.locks import write_lock_on
from eventport_sqlite.statements import write_commit


_SAVEPOINT: Final = "SAVEPOINT eventport_commit"
_RELEASE: Final = "RELEASE eventport_commit"
_UNDO: Final = "ROLLBACK TO eventport_commit"


class InlineProjections:
    """The handlers of one store, and the way to write commits with them.

    A handler must not end the transaction that it is a part of. A connection of Python does so
    easily, by `commit` or `executescript`; so SQLite is made to refuse it.

    Args:
        file: The file of the events, or what stands for a database in memory.
        within: How many seconds each handler may take.
    """

    def __init__(self, file: str, within: float) -> None:
        self.turn: Final = Lock()
        """Held while a transaction with handlers is open on the store's own connection."""
        self._file = file
        self._within = within
        self._handlers = InlineHandlers[aiosqlite.Connection]()
        self._running = 0
        self._guarded = False

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._handlers)

    def add(self, handler: InlineHandler[aiosqlite.Connection]) -> None:
        """Add a handler."""
        self._handlers.add(handler)

    async def write_batch(
        self, writer: Connection, call: Call, commits: Sequence[Commit]
    ) -> list[Outcome]:
        """Write a batch in one transaction, with a savepoint for each commit.

        If the caller is cancelled, nothing of the batch is written.
        """
        async with self._transaction(writer, call):
            now = time.time_ns() // 1_000
            return [
                await self.write_commit(writer, commit, now, self._within) for commit in commits
            ]

    async def write_commit(
        self,
        connection: aiosqlite.Connection,
        commit: Commit,
        now: int,
        within: float | None = None,
    ) -> Outcome:
        """Write one commit in the transaction that is open, and call the handlers in it."""
        outcome = await run_on(connection, lambda db: _begin(db, commit, now))
        for events in new_events([commit], [outcome]):
            try:
                await self._call_all(connection, events, within)
            except InlineProjectionError as exc:
                if not connection.in_transaction:
                    raise  # all of the batch is undone, and its members will be tried one by one
                await run_on(connection, _undo)
                return Failed(exc)
            await run_on(connection, _release)
        return outcome

    @asynccontextmanager
    async def _transaction(self, writer: Connection, call: Call) -> AsyncGenerator[None]:
        async with self.turn:
            try:
                await writer.finish(call, self._begin)
                with write_lock_on(self._file), writer.lent():
                    yield
                await writer.run_to_end(Database.commit)
            finally:
                if writer.in_transaction:
                    await run_shielded(writer.run, Database.rollback)

    def _begin(self, db: Database) -> None:
        if not self._guarded:
            db.set_authorizer(self._authorize)
            self._guarded = True
        # `commit` leaves no cached COMMIT, which a handler could run unnoticed.
        db.begin()

    async def _call_all(
        self,
        connection: aiosqlite.Connection,
        events: Sequence[RecordedEvent],
        within: float | None,
    ) -> None:
        transaction = Transaction(connection, documents_on(connection))
        for handler in self._handlers:
            self._running += 1
            try:
                await call_inline(handler, events, transaction, within, _judge)
            finally:
                self._running -= 1
            if not connection.in_transaction:
                message = (
                    f"inline handler {getattr(handler, '__qualname__', handler)} went on after "
                    "SQLite had rolled the transaction back, and nothing of this commit was written"
                )
                raise InlineProjectionError(message)

    def _authorize(self, action: int, *_: str | None) -> int:
        """Refuse the control of transactions to handlers."""
        refused = self._running and action == sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _judge(error: Exception) -> str | Exception:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
        return "it may neither begin nor end a transaction"
    return error


# What happens in the thread of the connection.


def _begin(db: sqlite3.Connection, commit: Commit, now: int) -> Outcome:
    db.execute(_SAVEPOINT)
    outcome = write_commit(db, commit, now)
    if not isinstance(outcome, Committed) or outcome.deduplicated:
        db.execute(_RELEASE)
    return outcome


def _release(db: sqlite3.Connection) -> None:
    db.execute(_RELEASE)


def _undo(db: sqlite3.Connection) -> None:
    db.execute(_UNDO)
    db.execute(_RELEASE)
