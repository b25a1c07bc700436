"""The store in SQLite: one connection that writes, one that reads."""

from __future__ import annotations

import os

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Self, TypeAlias, get_args

from eventport.adapter import AllPage, BaseEventStore, Commit, Outcome, StreamPage
from eventport.configuration import redact, unknown_option
from eventport.errors import ConfigurationError, InvalidArgumentTypeError
from eventport.opening import open_to_end, require_asyncio
from eventport.protocols import Capability

from eventport_sqlite import engine
from eventport_sqlite.connection import (
    MEMORY,
    Connection,
    Synchronous,
    open_connection,
    translated,
)
from eventport_sqlite.database import Call, Database
from eventport_sqlite.inline import InlineHandler, InlineProjections


_WriteBatch: TypeAlias = Callable[[Database, Sequence[Commit]], list[Outcome]]

_MAX_TIMEOUT: Final = 86_400.0
"""SQLite counts milliseconds in 32 bits."""


class SQLiteEventStore(BaseEventStore):
    """An event store in one SQLite file, or in memory. It runs under asyncio.

    Several stores, in one process or in many, can work on one file. Make one with `open` or,
    from a URL, with `connect`.
    """

    limitations: ClassVar[dict[Capability, str]] = {
        Capability.PUSH: "SQLite has no notifications; subscriptions look again and again",
        Capability.SHARED: "a database in memory belongs to one store; name a file",
        Capability.DURABLE: "a database in memory ends with its store; name a file",
    }

    def __init__(self, path: str, writer: Connection, reader: Connection) -> None:
        super().__init__()
        self.capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
        if path != MEMORY:
            self.capabilities |= {Capability.SHARED, Capability.DURABLE}
        self._path = path
        self._writer = writer
        self._reader = reader
        self._pending = 0
        self._batch = Call()
        self._inline = InlineProjections()
        self._write_batch: _WriteBatch = engine.write_batch

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout: float = 30.0,
    ) -> Self:
        """Open a database file, and create it if there is none.

        Args:
            path: The file, or ``:memory:``.
            synchronous: ``full`` keeps every acknowledged append, even if the power fails;
                ``normal`` may lose the last ones then, but not if only the process dies.
            busy_timeout: How many seconds a commit waits for those of other processes.

        Raises:
            ConfigurationError: the file cannot be opened for writing, or an option is wrong.
            IncompatibleStoreError: it is not an event store, or one of a newer version; it was
                not touched.
            NotSupportedError: this is not asyncio.
        """
        name = check_path(path)
        check_options(synchronous, busy_timeout)
        require_asyncio("SQLite", "aiosqlite does")
        return await open_to_end(lambda: cls._open(name, synchronous, busy_timeout))

    @classmethod
    async def connect(
        cls, url: str, *, synchronous: Synchronous = "full", busy_timeout: float = 30.0
    ) -> Self:
        """Open the store that a URL names.

        ``sqlite:///relative.db``, ``sqlite:////absolute.db``, and ``sqlite://`` for one in memory.
        Options are arguments here; `eventport.connect` takes them out of a URL.
        """
        return await cls.open(path_in(url), synchronous=synchronous, busy_timeout=busy_timeout)

    @classmethod
    async def _open(cls, path: str, synchronous: Synchronous, busy_timeout: float) -> Self:
        writer = await open_connection(path, synchronous, busy_timeout)
        if path == MEMORY:
            return cls(path, writer, writer)
        try:
            reader = await open_connection(path, synchronous, busy_timeout)
        except BaseException:
            await writer.close()
            raise
        return cls(path, writer, reader)

    def __repr__(self) -> str:
        """Show the file."""
        return f"<SQLiteEventStore: {self._path}>"

    def inline(self, handler: InlineHandler) -> InlineHandler:
        """Register a handler that runs in the transaction of each commit of this store.

        It is called in the thread of the connection that writes, with that connection and with
        the events of the one commit as they will be read. What it writes and the events become
        visible together, or not at all: if it raises, the append raises `InlineProjectionError`.
        Handlers run in the order of registration. It also serves as a decorator.

        Raises:
            InvalidArgumentTypeError: it is not a plain function.
        """
        self._inline.add(handler)
        self._write_batch = self._inline.write_batch
        return handler

    async def _dispatch(self, commit: Commit) -> Outcome:
        self._pending += 1
        try:
            if self._pending > 1:
                return await super()._dispatch(commit)
            # A lone commit needs neither a group nor the task that writes one: the connection's
            # thread brings it to its end, whatever happens to the caller.
            return (await self._writer.run_to_end(self._write_batch, [commit]))[0]
        finally:
            self._pending -= 1
            self.wake()

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        self._batch = call = Call()
        return await self._writer.start(call, lambda db: self._write_batch(db, commits))

    def _give_up(self) -> None:
        self._batch.give_up()

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        return await self._reader.run(
            engine.read_stream, stream, first, last, max_count, backwards=backwards
        )

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        return await self._reader.run(engine.read_all, after, max_count, types, prefix)

    async def _close(self) -> None:
        with translated():
            try:
                if self._reader is not self._writer:
                    await self._reader.close()
            finally:
                await self._writer.close()


def path_in(url: str) -> str:
    """Return the file that a URL names, or the name of a database in memory."""
    rest = url.partition("://")[2]
    name, _, query = rest.partition("?")
    if query:
        option = query.partition("=")[0]
        raise unknown_option("sqlite", option, ("busy_timeout", "synchronous"))
    if name and not name.startswith("/"):
        message = f"{redact(url)} names a host: a file is written sqlite:///NAME"
        raise ConfigurationError(message)
    return name[1:] or MEMORY


def check_path(path: object) -> str:
    """Return the name of a file, or raise `InvalidArgumentTypeError`."""
    if isinstance(path, str | os.PathLike):
        return os.fsdecode(path)
    message = f"path must be text or a path, not {path!r}"
    raise InvalidArgumentTypeError(message)


def check_options(synchronous: object, busy_timeout: object) -> None:
    """Raise `ConfigurationError` for an option that makes no sense."""
    if synchronous not in get_args(Synchronous):
        message = f"synchronous must be one of {get_args(Synchronous)}, not {synchronous!r}"
        raise ConfigurationError(message)
    if not isinstance(busy_timeout, int | float) or not 0 <= busy_timeout <= _MAX_TIMEOUT:
        message = f"busy_timeout must be from 0 to {_MAX_TIMEOUT:.0f} s, not {busy_timeout!r}"
        raise ConfigurationError(message)
