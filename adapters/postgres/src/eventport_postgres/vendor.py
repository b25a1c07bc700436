"""What is taken from the private parts of asyncpg; no other module touches those."""

from __future__ import annotations

from collections.abc import Sequence
from socket import socket
from typing import Any

from asyncpg import Connection, Record
from asyncpg.pool import PoolConnectionProxy


async def execute_plainly(
    connection: Connection[Any] | PoolConnectionProxy[Any],
    sql: str,
    args: Sequence[object],
    within: float | None,
) -> list[Record]:
    """Run one statement with asyncpg's own codecs and records, whatever its owner has set.

    asyncpg does so for its own questions, but has no public name for it.
    """
    vendor: Any = connection
    rows: list[Record] = await vendor._execute(  # what this module is for
        sql, args, 0, within, record_class=Record, ignore_custom_codec=True
    )
    return rows


def behind_proxy(connection: object) -> object:
    """Return the connection itself: a pool hands out a new proxy of it each time."""
    return getattr(connection, "_con", connection)


def socket_of(connection: object) -> socket | None:
    """Return the socket of a connection; None if it is not found, or there is none."""
    transport = getattr(connection, "_transport", None)
    found: socket | None = None if transport is None else transport.get_extra_info("socket")
    return found
