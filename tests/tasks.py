"""Task groups as the tests use them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import create_task_group
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that type checkers know to swallow no exception."""
    async with create_task_group() as tasks:
        yield tasks
