"""Calls that run side by side, and whose results are wanted in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from anyio import create_task_group


Q = TypeVar("Q")
R = TypeVar("R")


async def gather(call: Callable[[Q], Awaitable[R]], arguments: Iterable[Q]) -> list[R]:
    """Make a call for each argument, side by side; the first error cancels the others."""
    waiting: Sequence[Q] = list(arguments)
    if len(waiting) == 1:
        return [await call(waiting[0])]
    results: dict[int, R] = {}
    errors: list[Exception] = []
    async with create_task_group() as group:

        async def run(place: int, argument: Q) -> None:
            try:
                results[place] = await call(argument)
            except Exception as exc:  # noqa: BLE001  # the first one is raised below
                errors.append(exc)
                group.cancel_scope.cancel()

        for place, argument in enumerate(waiting):
            group.start_soon(run, place, argument)
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(waiting))]
