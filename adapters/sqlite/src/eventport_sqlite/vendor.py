"""What is taken from aiosqlite, its private parts included; no other module touches those.

aiosqlite's public methods run one statement each. Several in one hop, which is what makes a
transaction both fast and impossible to tear, need the queue below them.
"""

from __future__ import annotations

import asyncio
import sqlite3

from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite


T = TypeVar("T")


class ThreadedConnection(aiosqlite.Connection):
    """A connection of aiosqlite whose thread does not keep a program from ending.

    Args:
        connector: Opens the connection, in the thread.
        check: Called before each call of a method of aiosqlite's; it may refuse, by raising.
    """

    def __init__(
        self, connector: Callable[[], sqlite3.Connection], check: Callable[[], None]
    ) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._check = check
        # A program that ends without closing its store must not hang at its end. What this
        # thread leaves undone then, SQLite rolls back.
        self._thread.daemon = True

    @property
    def plain(self) -> sqlite3.Connection | None:
        """The connection that the thread uses; None unless it is open and may be used."""
        return self._connection if self._running else None

    def post(self, future: asyncio.Future[T], function: Callable[[], T]) -> None:
        """Let the thread call a function after those before it, and settle a future with that."""
        vendor: Any = self
        vendor._tx.put_nowait((future, function))  # what this module is for

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Do what all other methods of aiosqlite do, unless it is refused."""
        self._check()
        return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]


def plain_of(connection: aiosqlite.Connection) -> sqlite3.Connection | None:
    """Return the plain connection of anybody's; None if it is not open."""
    vendor: Any = connection
    plain: sqlite3.Connection | None = vendor._connection  # as above
    return plain


async def call_in_thread(connection: aiosqlite.Connection, function: Callable[[], T]) -> T:
    """Call a function in the thread of anybody's connection."""
    vendor: Any = connection
    result: T = await vendor._execute(function)  # as above
    return result
