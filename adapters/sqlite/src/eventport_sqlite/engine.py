"""The engine of SQLite: one connection that writes, one that reads, each in its own thread."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from eventport import Capability
from eventport.adapter import AllPage, AllQuery, Commit, Outcome, StreamPage, StreamQuery

from eventport_sqlite import statements
from eventport_sqlite.connection import MEMORY, Connection, translated
from eventport_sqlite.database import Call, Database
from eventport_sqlite.inline import InlineProjections
from eventport_sqlite.locks import refuse_while_locked


Q = TypeVar("Q")
P = TypeVar("P")

_WriteBatch: TypeAlias = Callable[[Database, Sequence[Commit]], list[Outcome]]

_EVERYWHERE: Final = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER, Capability.TIMES})
_IN_FILES: Final = frozenset({Capability.SHARED, Capability.DURABLE})


class SQLiteEngine:
    """Keeps events in one SQLite file, or in memory.

    Args:
        path: The file, or ``:memory:``.
        writer: The connection that writes.
        reader: The connection that reads; in memory there is only one.
    """

    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "SQLite has no notifications; subscriptions poll",
            Capability.SHARED: "a database in memory belongs to one store; name a file",
            Capability.DURABLE: "a database in memory ends with its store; name a file",
        }
    )

    def __init__(self, path: str, writer: Connection, reader: Connection) -> None:
        self.name: Final = path
        self.capabilities: frozenset[Capability] = (
            _EVERYWHERE if path == MEMORY else _EVERYWHERE | _IN_FILES
        )
        self.inline: Final = InlineProjections()
        self._writer = writer
        self._reader = reader
        self._batch = Call()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: one transaction, in one hop to the writer's thread."""
        write: _WriteBatch = self.inline.write_batch if self.inline else statements.write_commits
        self._batch = call = Call()
        return await self._writer.finish(call, lambda db: write(db, batch))

    def interrupt(self) -> None:
        """See `Interruptible.interrupt`: a batch that waits for the write lock gives up."""
        self._batch.give_up()

    def check_caller(self) -> None:
        """See `ChecksCaller.check_caller`: a handler must not wait for its own transaction."""
        refuse_while_locked(self.name)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        return await self._reader.run(_in_place, statements.read_stream, query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: there is one writer, so positions are in commit order."""
        return await self._reader.run(_in_place, statements.read_all, query)

    async def close(self) -> None:
        """See `Engine.close`."""
        with translated():
            try:
                if self._reader is not self._writer:
                    await self._reader.close()
            finally:
                await self._writer.close()


def _in_place(db: Database, read: Callable[[sqlite3.Connection, Q], P], query: Q) -> P:
    """Read from a file that is still where it was opened."""
    db.require_file()
    return read(db, query)
