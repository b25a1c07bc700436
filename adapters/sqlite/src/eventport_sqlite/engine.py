"""The engine of SQLite: one connection that writes, one that reads, each in its own thread."""

from __future__ import annotations

import sqlite3

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final, TypeVar

from eventport import Capability, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    Remark,
    StreamPage,
    StreamQuery,
)
from eventport.transactions import DocumentReader

from eventport_sqlite import fencing, statements
from eventport_sqlite.connection import MEMORY, Connection, translated
from eventport_sqlite.database import Call, Database
from eventport_sqlite.documents import documents_of
from eventport_sqlite.examining import examine
from eventport_sqlite.inline import InlineProjections
from eventport_sqlite.locks import refuse_while_locked


Q = TypeVar("Q")
P = TypeVar("P")

_EVERYWHERE: Final = frozenset(
    {
        Capability.SESSIONS,
        Capability.GLOBAL_ORDER,
        Capability.GUARDS,
        Capability.CONDITIONS,
        Capability.TIMES,
        Capability.CATALOGUE,
    }
)
_IN_FILES: Final = frozenset({Capability.SHARED, Capability.DURABLE})


class SQLiteEngine:
    """Keeps events in one SQLite file, or in memory.

    Args:
        path: The file, or ``:memory:``.
        writer: The connection that writes.
        reader: The connection that reads; in memory there is only one.
        busy_timeout: How many seconds others wait for the write lock, and so how many an inline
            handler may take; it may take one in any case.
    """

    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "SQLite has no notifications; subscriptions poll",
            Capability.SHARED: "a database in memory belongs to one store; name a file",
            Capability.DURABLE: "a database in memory ends with its store; name a file",
        }
    )

    def __init__(
        self, path: str, writer: Connection, reader: Connection, busy_timeout: float
    ) -> None:
        self.name: Final = path
        self.capabilities: frozenset[Capability] = (
            _EVERYWHERE if path == MEMORY else _EVERYWHERE | _IN_FILES
        )
        self._file = f"{MEMORY}{id(self)}" if path == MEMORY else path
        self.inline: Final = InlineProjections(self._file, max(busy_timeout, 1.0))
        self._writer = writer
        self._reader = reader
        self._batch = Call()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: one transaction, in one hop to the writer's thread.

        With inline handlers there are two hops for each commit, and those of the handlers.
        """
        self._batch = call = Call()
        if self.inline:
            return await self.inline.write_batch(self._writer, call, batch)
        return await self._writer.finish(call, lambda db: statements.write_commits(db, batch))

    def interrupt(self) -> None:
        """See `Interruptible.interrupt`: a batch that waits for the write lock gives up."""
        self._batch.give_up()

    def check_caller(self) -> None:
        """See `ChecksCaller.check_caller`: a handler must not wait for its own transaction."""
        refuse_while_locked(self._file)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.read_stream, query)

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """See `ReadsMany.read_streams`: in one hop to the reader's thread."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.read_streams, streams)

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """See `ReadsHeads.read_heads`: in one hop to the reader's thread."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.read_heads, streams)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: there is one writer, so positions are in commit order."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.read_all, query)

    @asynccontextmanager
    async def documents(self) -> AsyncGenerator[DocumentReader]:
        """Give the documents of a database in memory, to be read."""
        yield documents_of(self._reader, self._read_turn)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`: there is one writer, so all that is committed was seen."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.read_matches, query)

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`: two steps in an index for each stream."""
        async with self._read_turn():
            return await self._reader.run(_in_place, statements.list_streams, query)

    async def examine(self) -> Sequence[Remark]:
        """See `Examines.examine`: of the connection that reads, which has the same settings."""
        async with self._read_turn():
            return await self._reader.run(examine, None if self.name == MEMORY else self.name)

    async def fenced(self) -> str | None:
        """See `Fences.fenced`."""
        async with self._read_turn():
            return await self._reader.run(fencing.fenced)

    async def set_fence(self, before: str | None, after: str | None, /) -> bool:
        """See `Fences.set_fence`: it takes the write lock, as each commit does."""
        refuse_while_locked(self._file)
        async with self.inline.turn:
            return await self._writer.run_to_end(fencing.set_fence, before, after)

    async def close(self) -> None:
        """See `Engine.close`."""
        with translated():
            try:
                if self._reader is not self._writer:
                    await self._reader.close()
            finally:
                await self._writer.close()

    @asynccontextmanager
    async def _read_turn(self) -> AsyncGenerator[None]:
        """Wait for the end of a transaction that is open on the connection that reads.

        In memory that is the one that writes, and so it sees what may be undone.
        """
        if self._reader is not self._writer or not self.inline:
            yield
            return
        refuse_while_locked(self._file)
        async with self.inline.turn:
            yield


def _in_place(db: Database, read: Callable[[sqlite3.Connection, Q], P], query: Q) -> P:
    """Read from a file that is still where it was opened."""
    db.require_file()
    return read(db, query)
