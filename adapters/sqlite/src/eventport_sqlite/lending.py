"""Functions in the thread of a connection that somebody else owns."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable
from typing import TypeVar

import aiosqlite

from eventport.errors import StoreClosedError

from eventport_sqlite.connection import translated
from eventport_sqlite.vendor import call_in_thread, plain_of


T = TypeVar("T")


async def run_on(
    connection: aiosqlite.Connection, function: Callable[[sqlite3.Connection], T]
) -> T:
    """Call a function in the thread of any connection of aiosqlite, with its plain connection.

    Its owner may have set factories for rows and text: the function does without them.
    """
    plain = plain_of(connection)
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
        return await call_in_thread(connection, work)
