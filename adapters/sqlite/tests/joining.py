"""A transaction of the caller's on SQLite, for stores that join it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiosqlite


@asynccontextmanager
async def caller_transaction(
    url: str, *, commits: bool
) -> AsyncGenerator[aiosqlite.Connection, None]:
    """Begin a transaction in the file of a URL, and commit it, or undo it, in the end."""
    path = url.removeprefix("sqlite:///")
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("BEGIN IMMEDIATE")
        yield connection
        await connection.execute("COMMIT" if commits else "ROLLBACK")
