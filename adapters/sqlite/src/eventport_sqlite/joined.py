"""An engine inside a transaction of the caller's."""

from __future__ import annotations

import asyncio
import sqlite3
import time

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Concatenate, Final, ParamSpec, TypeVar

import aiosqlite

from eventport import Capability, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    StreamPage,
    StreamQuery,
    run_shielded,
)
from eventport.errors import NotSupportedError

from eventport_sqlite import statements
from eventport_sqlite.inline import InlineProjections
from eventport_sqlite.lending import run_on
from eventport_sqlite.locks import identity


P = ParamSpec("P")
T = TypeVar("T")

_SAVEPOINT: Final = "SAVEPOINT eventport_joined"
_RELEASE: Final = "RELEASE eventport_joined"
_UNDO: Final = "ROLLBACK TO eventport_joined"


class SQLiteJoinedEngine:
    """Works inside the transaction that is open on a connection of the caller's.

    Reads see what the transaction has appended. A conflict does not abort the transaction. As
    long as it is open, no other connection can write to the file.

    Args:
        connection: The caller's connection.
        path: The file of the events; the connection must be to the same one.
        inline: The handlers that run with each commit.
    """

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.GUARDS,
            Capability.CONDITIONS,
            Capability.TIMES,
            Capability.CATALOGUE,
        }
    )
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "a transaction does not see later commits of others",
            Capability.SHARED: "the transaction belongs to one connection",
            Capability.DURABLE: "the transaction may be rolled back",
        }
    )

    def __init__(
        self, connection: aiosqlite.Connection, path: str, inline: InlineProjections
    ) -> None:
        self.name: Final = f"{path}, in a transaction"
        self._connection = connection
        self._path = path
        self._inline = inline

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: a savepoint in the caller's transaction."""
        if self._inline:
            return await self._write_with_handlers(batch)
        return await run_shielded(self._ask, _write, batch)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        return await self._ask(statements.read_stream, query)

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """See `ReadsMany.read_streams`."""
        return await self._ask(statements.read_streams, streams)

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """See `ReadsHeads.read_heads`."""
        return await self._ask(statements.read_heads, streams)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        return await self._ask(statements.read_all, query)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        return await self._ask(statements.read_matches, query)

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`."""
        return await self._ask(statements.list_streams, query)

    async def close(self) -> None:
        """Leave the connection and its transaction to their owner."""

    async def _ask(
        self,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def work(db: sqlite3.Connection) -> T:
            self._check(db)
            return query(db, *args, **kwargs)

        return await run_on(self._connection, work)

    async def _write_with_handlers(self, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            await run_shielded(self._ask, _execute, _SAVEPOINT)
        except asyncio.CancelledError:
            await run_shielded(run_on, self._connection, _undo)
            raise
        try:
            now = time.time_ns() // 1_000
            outcomes = [
                await self._inline.write_commit(self._connection, commit, now) for commit in commits
            ]
        except BaseException:  # a caller that gives up may go on with its transaction
            await run_shielded(run_on, self._connection, _undo)
            raise
        await run_shielded(self._ask, _execute, _RELEASE)
        return outcomes

    def _check(self, db: sqlite3.Connection) -> None:
        file = next(row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main")
        if identity(file) != identity(self._path):
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


def _execute(db: sqlite3.Connection, sql: str) -> None:
    db.execute(sql)


def _undo(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute(_UNDO)
        db.execute(_RELEASE)


def _write(db: sqlite3.Connection, commits: Sequence[Commit]) -> list[Outcome]:
    """Write in the transaction that is open; if it fails, nothing of it is left, and that stays."""
    db.execute(_SAVEPOINT)
    try:
        now = time.time_ns() // 1_000
        outcomes = [statements.write_commit(db, commit, now) for commit in commits]
    except BaseException:
        _undo(db)
        raise
    db.execute(_RELEASE)
    return outcomes
