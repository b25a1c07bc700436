"""Which transaction holds the write lock of a file, and the refusal of what would wait for it."""

from __future__ import annotations

import os

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from eventport.adapter import calls_handlers
from eventport.errors import NotSupportedError


class _Held:
    """A transaction that can write to a file, and keeps all others from it."""

    def __init__(self, file: object) -> None:
        self.file = file
        self.is_open = True


_held: Final[ContextVar[_Held | None]] = ContextVar("eventport_sqlite.held", default=None)


@contextmanager
def write_lock_on(path: str) -> Generator[None]:
    """Remember, in the block and what it calls, that a file is locked by its transaction."""
    held = _Held(identity(path))
    token = _held.set(held)
    try:
        with calls_handlers(held):
            yield
    finally:
        held.is_open = False  # for tasks that outlive the block with a copy of its context
        _held.reset(token)


def refuse_while_locked(path: str) -> None:
    """Refuse an append that would wait for the transaction that its caller is in.

    Raises:
        NotSupportedError: that is so.
    """
    held = _held.get()
    if held is not None and held.is_open and held.file == identity(path):
        message = (
            f"this handler holds the write lock of {path}, for which its append would wait: "
            "append to store.using(context.connection), which writes in the same transaction, or "
            "keep checkpoints and read model in another file"
        )
        raise NotSupportedError(message)


def identity(path: str) -> object:
    """Return what identifies a file, by whichever name it is reached."""
    try:
        found = Path(os.path.abspath(path)).stat()  # noqa: PTH100  # as SQLite names files
    except OSError:
        return path
    return found.st_dev, found.st_ino
