"""Inline projections: handlers that run in the writer's thread, inside the open transaction."""

from __future__ import annotations

import inspect
import sqlite3

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from eventport.adapter import Commit, Failed, Outcome
from eventport.errors import InlineProjectionError, InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.inline import InlineHandlers, failure, new_events
from eventport.validation import show

from eventport_sqlite.database import Database
from eventport_sqlite.engine import write_batch, write_commit


InlineHandler: TypeAlias = Callable[[sqlite3.Connection, Sequence[RecordedEvent]], None]
"""Called inside the transaction of a commit, with its connection and its events."""

_SAVEPOINT: Final = "SAVEPOINT eventport_commit"
_RELEASE: Final = "RELEASE eventport_commit"
_UNDO: Final = "ROLLBACK TO eventport_commit"


class InlineProjections:
    """The handlers of one store, and the way to write commits with them.

    A handler must not end the transaction that it is a part of. A connection of Python does so
    easily, by `commit`, `executescript`, or ``with connection``; so SQLite is made to refuse it.
    """

    def __init__(self) -> None:
        self._handlers = InlineHandlers[InlineHandler]()
        self._running = False
        self._guarded = False

    def add(self, handler: InlineHandler) -> None:
        """Add a handler."""
        if inspect.iscoroutinefunction(handler):
            message = (
                f"an inline handler on SQLite must be a plain function, not {show(handler)}: it "
                "runs in a thread, inside a transaction that must not wait for an event loop"
            )
            raise InvalidArgumentTypeError(message)
        self._handlers.add(handler)

    def write_batch(self, db: Database, commits: Sequence[Commit]) -> list[Outcome]:
        """Write a batch in one transaction, with a savepoint for each commit."""
        if not self._guarded:
            db.set_authorizer(self._authorize)
            self._guarded = True
        return write_batch(db, commits, self._write_commit)

    def _write_commit(self, db: sqlite3.Connection, commit: Commit, now: int) -> Outcome:
        db.execute(_SAVEPOINT)
        outcome = write_commit(db, commit, now)
        try:
            for events in new_events([commit], [outcome]):
                for handler in self._handlers:
                    self._call(handler, db, events)
        except InlineProjectionError as exc:
            if not db.in_transaction:
                raise  # all of the batch is undone, and its members will be tried one by one
            db.execute(_UNDO)
            outcome = Failed(exc)
        db.execute(_RELEASE)
        return outcome

    def _call(
        self, handler: InlineHandler, db: sqlite3.Connection, events: Sequence[RecordedEvent]
    ) -> None:
        fail = partial(failure, handler)
        call: Callable[..., object] = handler  # whatever type checkers were told
        self._running = True
        try:
            result = call(db, events)
        except Exception as exc:
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
                raise fail("it may neither begin nor end a transaction") from exc
            raise fail(exc) from exc
        finally:
            self._running = False
            db.row_factory, db.text_factory = None, str
        if inspect.iscoroutine(result):
            result.close()
            raise fail("it returned a coroutine, but must be a plain function")
        if not db.in_transaction:
            raise fail("SQLite undid the transaction, and it went on")

    def _authorize(self, action: int, *_: str | None) -> int:
        """Refuse the control of transactions to handlers."""
        refused = self._running and action == sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
