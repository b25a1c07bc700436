"""Whether a cancellation is meant for the task that it reaches, or escaped from something else."""

from __future__ import annotations

import asyncio
import math

from collections.abc import Generator
from contextlib import contextmanager

from anyio import current_effective_deadline, get_cancelled_exc_class

from eventport.errors import EscapedCancellationError


@contextmanager
def own_cancellation_only() -> Generator[None]:
    """Turn a cancellation that nobody asked of this task into an ordinary error.

    Code that awaits a cancelled task raises `asyncio.CancelledError`, too. Only whether the
    task itself is being cancelled tells the two apart, not the class of what is raised.

    Raises:
        EscapedCancellationError: the block let a cancellation out that is not the task's.
    """
    try:
        yield
    except (asyncio.CancelledError, get_cancelled_exc_class()) as exc:
        if is_being_cancelled():
            raise
        raise EscapedCancellationError from exc


def is_being_cancelled() -> bool:
    """Return whether the current task is being cancelled, by a scope of anyio's or by asyncio."""
    if current_effective_deadline() == -math.inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio runs it, which has no other cancellation than that of scopes
        return False
    return task is not None and task.cancelling() > 0
