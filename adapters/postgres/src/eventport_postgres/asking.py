"""Questions to a connection whose owner may have given it codecs of its own."""

from __future__ import annotations

from typing import Any, TypeAlias

from asyncpg import Connection, Record
from asyncpg.pool import PoolConnectionProxy

from eventport_postgres.vendor import execute_plainly


AnyConnection: TypeAlias = "Connection[Any] | PoolConnectionProxy[Any]"
"""A connection of asyncpg, or what a pool of it hands out."""


async def ask(
    connection: AnyConnection, sql: str, *args: object, within: float | None = None
) -> list[Record]:
    """Run one statement and return its rows, with asyncpg's own codecs and records.

    A pool of the caller's may turn times into text, JSON into dicts, or records into a class of
    its own.
    """
    return await execute_plainly(connection, sql, args, within)


async def ask_one(
    connection: AnyConnection, sql: str, *args: object, within: float | None = None
) -> Record:
    """Run a statement that gives exactly one row, and return that row."""
    (row,) = await ask(connection, sql, *args, within=within)
    return row
