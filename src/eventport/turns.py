"""Turns: tasks of one process that write the same stream do not conflict with each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final
from weakref import WeakValueDictionary

from anyio import Lock, move_on_after

from eventport.protocols import EventStore


_LONGEST: Final = 30.0
"""How many seconds to wait for a turn at most: turns save work, and nothing depends on them."""

_locks: Final[WeakValueDictionary[tuple[int, str], Lock]] = WeakValueDictionary()
_has_one: Final[ContextVar[bool]] = ContextVar("eventport_turn", default=False)


@asynccontextmanager
async def turn(store: EventStore, stream: str) -> AsyncGenerator[None, None]:
    """Wait until no other task of this process has a turn at a stream of a store.

    A task that has a turn, and all that it starts, takes no second one: a turn that waits for
    another could wait forever.
    """
    if _has_one.get():
        yield
        return
    lock = _locks.setdefault((id(store), stream), Lock())
    acquired = False
    with move_on_after(_LONGEST):
        await lock.acquire()
        acquired = True
    token = _has_one.set(True)
    try:
        yield
    finally:
        _has_one.reset(token)
        if acquired:
            lock.release()
