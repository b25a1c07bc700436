"""Tasks that clean up after callers that have gone."""

from __future__ import annotations

import asyncio

from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks that nobody waits for, until the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start one, and return it. It must not raise."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self, within: float) -> None:
        """Wait for all of them, or cancel those that do not end in time."""
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)  # they close their connections at once
