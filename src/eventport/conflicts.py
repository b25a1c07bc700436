"""Retries after conflicts: the function runs again, so that it decides on the newest events."""

from __future__ import annotations

import random

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from anyio import sleep

from eventport._concurrency.backoff import Backoff
from eventport.boundaries import BoundaryError
from eventport.errors import ConcurrencyError
from eventport.protocols import EventStore, Session
from eventport.turns import turn
from eventport.validation import check_int


T = TypeVar("T")

ATTEMPTS: Final = 20
"""How often something is tried by default while others are faster.

In a process only one task at a time tries again, so its rivals are those of other processes: of
two, each wins about every second time.
"""


async def run_in_session(
    store: EventStore, function: Callable[[Session], Awaitable[T]], *, attempts: int = ATTEMPTS
) -> T:
    """Run a function in a session and commit; on a conflict run it again in a new session.

    The function must have no effects but those on the session, since it may run several
    times. Between two attempts there is a short random pause, so that competitors do not
    meet again, and tasks of one process that conflict on a stream take turns.

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

    return await retry_conflicts(store, attempt, attempts=attempts)


async def retry_conflicts(
    store: EventStore, function: Callable[[], Awaitable[T]], *, attempts: int
) -> T:
    """Run a function, and run it again as long as it raises `ConcurrencyError`.

    After a conflict it waits for its turn at the stream or the query: of the tasks of one process
    that lost a race, only one at a time runs it again.

    Args:
        store: The store that the function writes to.
        function: What to do.
        attempts: How often to try, at most; the last conflict is raised.
    """
    attempts = check_int("attempts", attempts, least=1)
    if attempts == 1:
        return await function()
    try:
        return await function()
    except BoundaryError as exc:
        contended = exc.query.to_json()
    except ConcurrencyError as exc:
        contended = exc.stream
    async with turn(store, contended):
        backoff = Backoff(0.005, 0.08)
        for _ in range(2, attempts):
            try:
                return await function()
            except ConcurrencyError:
                pass
            # Callers that lost to the same commit must not come back at the same moment.
            await sleep(random.uniform(0, backoff.next()))  # noqa: S311  # no secret depends on it
        return await function()
