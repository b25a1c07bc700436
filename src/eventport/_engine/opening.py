"""What every adapter does when it opens a store."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from eventport._concurrency.shielding import run_shielded
from eventport.errors import NotSupportedError


class Closable(Protocol):
    """Something that its opener has to close."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


async def open_to_end(opening: Callable[[], Awaitable[C]]) -> C:
    """Open something entirely: never left half open, and never open without an owner.

    If the caller is cancelled meanwhile, and so cannot take what has been opened, it is closed.
    """
    opened: list[C] = []

    async def work() -> None:
        opened.append(await opening())

    try:
        await run_shielded(work)
    except BaseException:
        for one in opened:
            await one.aclose()
        raise
    return opened[0]


def require_asyncio(database: str, reason: str) -> None:
    """Raise `NotSupportedError` unless this is asyncio.

    Args:
        database: The name of the database, for the message.
        reason: Why its stores need asyncio, such as ``"asyncpg does"``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError as exc:
        message = f"{database} stores run under asyncio only, because {reason}"
        raise NotSupportedError(message) from exc
