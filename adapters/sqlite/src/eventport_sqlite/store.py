"""The store in SQLite: what opens it, and what only it can do."""

from __future__ import annotations

import os

from typing import Annotated, Self, TypeAlias

from msgspec import Meta

from eventport import ConfigurationError, InvalidArgumentTypeError
from eventport.adapter import (
    Store,
    check_url,
    checks_options,
    open_to_end,
    redact,
    require_asyncio,
    unknown_option,
)

from eventport_sqlite.connection import MEMORY, Synchronous, open_connection
from eventport_sqlite.engine import SQLiteEngine
from eventport_sqlite.inline import InlineHandler


BusyTimeout: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]
"""Seconds that a commit waits for others; SQLite counts milliseconds in 32 bits."""


class SQLiteEventStore(Store):
    """An event store in one SQLite file, or in memory. It runs under asyncio.

    Several stores, in one process or in many, can work on one file. Make one with `open` or,
    from a URL, with `connect`.
    """

    def __init__(self, engine: SQLiteEngine) -> None:
        super().__init__(engine, batching="contended")
        self._sqlite = engine

    @classmethod
    @checks_options
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout: BusyTimeout = 30.0,
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
        require_asyncio("SQLite", "aiosqlite does")
        return await open_to_end(lambda: cls._open(name, synchronous, busy_timeout))

    @classmethod
    @checks_options
    async def connect(
        cls, url: str, *, synchronous: Synchronous = "full", busy_timeout: BusyTimeout = 30.0
    ) -> Self:
        """Open the store that a URL names.

        ``sqlite:///relative.db``, ``sqlite:////absolute.db``, and ``sqlite://`` for one in memory.
        Options are arguments here; `eventport.connect` takes them out of a URL.
        """
        return await cls.open(path_in(url), synchronous=synchronous, busy_timeout=busy_timeout)

    @classmethod
    async def _open(cls, path: str, synchronous: Synchronous, busy_timeout: BusyTimeout) -> Self:
        writer = await open_connection(path, synchronous, busy_timeout)
        if path == MEMORY:
            return cls(SQLiteEngine(path, writer, writer))
        try:
            reader = await open_connection(path, synchronous, busy_timeout)
        except BaseException:
            await writer.close()
            raise
        return cls(SQLiteEngine(path, writer, reader))

    def inline(self, handler: InlineHandler) -> InlineHandler:
        """Register a handler that runs in the transaction of each commit of this store.

        It is called in the thread of the connection that writes, with that connection and with
        the events of the one commit as they will be read. What it writes and the events become
        visible together, or not at all: if it raises, the append raises `InlineProjectionError`.
        Handlers run in the order of registration. It also serves as a decorator.

        Raises:
            InvalidArgumentTypeError: it is not a plain function.
        """
        self._sqlite.inline.add(handler)
        return handler


def path_in(url: str) -> str:
    """Return the file that a URL names, or the name of a database in memory."""
    rest = check_url(url).partition("://")[2]
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
