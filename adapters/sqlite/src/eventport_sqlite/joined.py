"""A store inside a transaction of the caller's, and the refusal of what would wait for it."""

from __future__ import annotations

import os
import sqlite3
import time

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ClassVar, Concatenate, Final, Never, ParamSpec, TypeVar

import aiosqlite

from eventport.adapter import (
    AfterCommitHook,
    AllPage,
    BaseEventStore,
    Commit,
    Outcome,
    StreamPage,
)
from eventport.errors import NotSupportedError
from eventport.protocols import Capability
from eventport.shielding import run_shielded

from eventport_sqlite import engine
from eventport_sqlite.connection import run_on
from eventport_sqlite.inline import InlineProjections


P = ParamSpec("P")
T = TypeVar("T")

_SAVEPOINT: Final = "SAVEPOINT eventport_joined"
_RELEASE: Final = "RELEASE eventport_joined"
_UNDO: Final = "ROLLBACK TO eventport_joined"


class JoinedEventStore(BaseEventStore):
    """An `EventStore` whose effects belong to the transaction that is open on a connection.

    Reads see what the transaction has appended. A conflict does not abort the transaction. As
    long as it is open, no other connection can write to the file: keep it short.

    There are no after-commit hooks and no subscriptions, since it does not see the commit.
    """

    capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
    limitations: ClassVar[dict[Capability, str]] = {
        Capability.PUSH: "a transaction is not told of others",
        Capability.SHARED: "the transaction belongs to one connection",
        Capability.DURABLE: "the transaction may be rolled back",
    }

    def __init__(
        self, connection: aiosqlite.Connection, path: str, inline: InlineProjections
    ) -> None:
        super().__init__()
        self._connection = connection
        self._path = path
        self._inline = inline

    def __repr__(self) -> str:
        """Show the file."""
        return f"<JoinedEventStore: {self._path}>"

    def after_commit(self, hook: AfterCommitHook) -> Never:
        """Refuse: only the owner of the transaction knows when it is committed."""
        message = f"{hook!r} cannot be called after a commit that somebody else does"
        raise NotSupportedError(message)

    def subscribe(self, **_: object) -> Never:
        """Refuse: a subscription in a transaction would keep it open for ever."""
        message = "a subscription needs a store of its own, not one inside a transaction"
        raise NotSupportedError(message)

    async def _dispatch(self, commit: Commit) -> Outcome:
        return (await run_shielded(self._commit_batch, [commit]))[0]

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await self._ask(_write, commits, self._inline)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        return await self._ask(
            engine.read_stream, stream, first, last, max_count, backwards=backwards
        )

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        return await self._ask(engine.read_all, after, max_count, types, prefix)

    async def _ask(
        self,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def work(db: sqlite3.Connection) -> T:
            self._check(db)
            rows, text = db.row_factory, db.text_factory
            db.row_factory, db.text_factory = None, str
            try:
                return query(db, *args, **kwargs)
            finally:
                db.row_factory, db.text_factory = rows, text

        return await run_on(self._connection, work)

    def _check(self, db: sqlite3.Connection) -> None:
        file = next(row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main")
        if _identity(file) != _identity(self._path):
            message = (
                f"this connection is to {file or 'a database in memory'}, and the events are in "
                f"{self._path}: only a transaction of the same file can hold both"
            )
            raise NotSupportedError(message)
        if not db.in_transaction:
            message = (
                "no transaction is open on this connection: execute BEGIN IMMEDIATE first, and "
                "use the store only until the end of that transaction"
            )
            raise NotSupportedError(message)


def _write(
    db: sqlite3.Connection, commits: Sequence[Commit], inline: InlineProjections
) -> list[Outcome]:
    """Write in the transaction that is open; if it fails, nothing of it is left, and that stays."""
    db.execute(_SAVEPOINT)
    try:
        now = time.time_ns() // 1_000
        outcomes = [inline.write_commit(db, commit, now) for commit in commits]
    except BaseException:
        if db.in_transaction:
            db.execute(_UNDO)
            db.execute(_RELEASE)
        raise
    db.execute(_RELEASE)
    return outcomes


class _Held:
    """A transaction that can write to a file, and keeps all others from it."""

    def __init__(self, file: object) -> None:
        self.file = file
        self.is_open = True


_held: Final[ContextVar[_Held | None]] = ContextVar("eventport_sqlite.held", default=None)


@contextmanager
def write_lock_on(path: str) -> Generator[None]:
    """Remember, in the block and what it calls, that a file is locked by its transaction."""
    held = _Held(_identity(path))
    token = _held.set(held)
    try:
        yield
    finally:
        held.is_open = False  # for tasks that go on after the block, with a copy of its context
        _held.reset(token)


def refuse_while_locked(path: str) -> None:
    """Refuse an append that would wait for the transaction that its caller is in.

    Raises:
        NotSupportedError: that is so.
    """
    held = _held.get()
    if held is not None and held.is_open and held.file == _identity(path):
        message = (
            f"this handler holds the write lock of {path}, for which its append would wait: "
            "append to store.using(to.connection), which writes in the same transaction, or "
            "keep checkpoints and read model in another file"
        )
        raise NotSupportedError(message)


def _identity(path: str) -> object:
    try:
        found = Path(os.path.abspath(path)).stat()  # noqa: PTH100  # as SQLite names files
    except OSError:
        return path
    return found.st_dev, found.st_ino
