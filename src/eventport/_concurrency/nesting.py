"""What has called us: a call from inside of something must not wait for its end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final


inside_of: Final[ContextVar[object]] = ContextVar("eventport.inside_of", default=None)
"""The commit, transaction or gate that has called what is running; None if there is none."""


@contextmanager
def calls_handlers(owner: object) -> Generator[None]:
    """Mark a block as a commit or a transaction that waits for the handlers that it calls.

    A command that one of them handles does not wait at a gate, which may wait for the block.

    Args:
        owner: Stands for the block; the outermost one counts.
    """
    token = inside_of.set(inside_of.get() or owner)
    try:
        yield
    finally:
        inside_of.reset(token)
