"""Functions that run side by side, and end together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import create_task_group


async def first_of(*functions: Callable[[], Awaitable[None]]) -> None:
    """Run functions side by side until one of them ends or fails, and cancel the others."""
    failures: list[Exception] = []
    async with create_task_group() as group:

        async def run(function: Callable[[], Awaitable[None]]) -> None:
            try:
                await function()
            except Exception as exc:  # noqa: BLE001  # the first one is raised below
                failures.append(exc)
            group.cancel_scope.cancel()

        for function in functions:
            group.start_soon(run, function)
    if failures:
        raise failures[0]
