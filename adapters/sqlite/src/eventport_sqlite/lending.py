"""Functions in the thread of a connection that somebody else owns."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite

from eventport.errors import StoreClosedError

from eventport_sqlite.connection import translated


T = TypeVar("T")


async def run_on(
    connection: aiosqlite.Connection, function: Callable[[sqlite3.Connection], T]
) -> T:
    """Call a function in the thread of any connection of aiosqlite, with its plain connection.

    Its owner may have set factories for rows and text: the function does without them.
    """
    # aiosqlite's public methods run one statement each. Several in one hop, which is what makes
    # a savepoint impossible to tear, need the method below them.
    vendor: Any = connection
    plain: sqlite3.Connection | None = vendor._connection  # noqa: SLF001  # see above
    if plain is None:
        raise StoreClosedError("the connection has been closed")

    def work() -> T:
        rows, text = plain.row_factory, plain.text_factory
        plain.row_factory, plain.text_factory = None, str
        try:
            return function(plain)
        finally:
            plain.row_factory, plain.text_factory = rows, text

    with translated():
        result: T = await vendor._execute(work)  # noqa: SLF001  # see above
    return result
