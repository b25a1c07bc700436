"""Retries after conflicts: the function runs again, so that it decides on the newest events."""

from __future__ import annotations

import random

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from anyio import sleep

from eventport._concurrency.backoff import Backoff
from eventport.errors import ConcurrencyError
from eventport.protocols import EventStore, Session
from eventport.validation import check_int


T = TypeVar("T")

ATTEMPTS: Final = 5
"""How many times a function is tried by default."""


async def run_in_session(
    store: EventStore, function: Callable[[Session], Awaitable[T]], *, attempts: int = ATTEMPTS
) -> T:
    """Run a function in a session and commit; on a conflict run it again in a new session.

    The function must have no effects but those on the session, since it may run several times.
    Between two attempts there is a short random pause, so that competitors do not meet again.

    Args:
        store: Any event store.
        function: What to do; it gets the session.
        attempts: How often to try, at most.

    Returns:
        What the function returned in the attempt that was committed.

    Raises:
        ConcurrencyError: the last attempt had a conflict, too; nothing was written.
    """

    async def attempt() -> T:
        async with store.session() as session:
            return await function(session)

    return await retry_conflicts(attempt, attempts=attempts)


async def retry_conflicts(function: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """Run a function, and run it again as long as it raises `ConcurrencyError`.

    Args:
        function: What to do.
        attempts: How often to try, at most; the last conflict is raised.
    """
    attempts = check_int("attempts", attempts, least=1)
    backoff = Backoff(0.01, 0.32)
    for _ in range(1, attempts):
        try:
            return await function()
        except ConcurrencyError:
            pass
        # Callers that lost to the same commit must not come back at the same moment.
        await sleep(random.uniform(0, backoff.next()))  # noqa: S311  # no secret depends on it
    return await function()
