"""Functions that run side by side, and end together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import create_task_group

from eventport._concurrency.cancelling import own_cancellation_only
from eventport.errors import EscapedCancellationError


async def run_until_first(*functions: Callable[[], Awaitable[None]]) -> None:
    """Run functions side by side until one of them ends or fails, and cancel the others.

    Raises:
        EscapedCancellationError: one ended by a cancellation, but this was not cancelled.
    """
    failures: list[Exception] = []
    ended = False
    async with create_task_group() as group:

        async def run(function: Callable[[], Awaitable[None]]) -> None:
            nonlocal ended
            try:
                with own_cancellation_only():
                    await function()
                ended = True
            except Exception as exc:  # noqa: BLE001  # the first one is raised below
                failures.append(exc)
            group.cancel_scope.cancel()

        for function in functions:
            group.start_soon(run, function)
    if failures:
        raise failures[0]
    if not ended:
        raise EscapedCancellationError
