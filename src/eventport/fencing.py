"""Fences: keeping the appends of all processes away from a store, for as long as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventport._engine.calls import retry_lost
from eventport._engine.engine import Fences, Remote
from eventport._engine.store import Store
from eventport.errors import InvalidArgumentError, NotSupportedError
from eventport.protocols import EventStore
from eventport.validation import control_character, show


T = TypeVar("T")


def can_fence(store: EventStore) -> bool:
    """Return whether a store can keep the appends of all processes away."""
    return isinstance(store, Store) and isinstance(store.engine, Fences)


async def fenced(store: EventStore) -> str | None:
    """Return what the fence of a store says; None if it has none, or cannot have one."""
    if not can_fence(store):
        return None
    return await _call(store, _fences(store).fenced)


async def set_fence(store: EventStore, before: str | None, after: str | None) -> bool:
    """Change the fence of a store, if it says what the caller takes it for.

    While there is one, appends of all processes raise `StoreFencedError`, and reads go on. When
    this has returned, all that was written without it can be read.

    Args:
        store: The store.
        before: What its fence says now; None for no fence.
        after: What it is to say: one line that says where to append now, different from what
            any earlier fence said. None to take it away.

    Returns:
        Whether it says that now. If not, somebody else has changed it.

    Raises:
        NotSupportedError: this kind of store cannot keep other processes away.
        StoreUnavailableError: the backend gave no answer in time, or an open transaction has
            written events and does not end.
    """
    fences = _fences(store)
    if after is not None and (not after or control_character(after)):
        message = f"what a fence says must be one line of text, not {show(after)}"
        raise InvalidArgumentError(message)

    async def change() -> bool:
        # If the answer to an earlier try was lost, it may have changed already.
        return await fences.set_fence(before, after) or await fences.fenced() == after

    return await _call(store, change)


async def unfence(store: EventStore) -> str | None:
    """Take the fence of a store away, so that it takes appends again; return what it said.

    Raises:
        NotSupportedError: this kind of store has no fences.
        StoreUnavailableError: see `set_fence`.
    """
    _fences(store)
    while (said := await fenced(store)) is not None and not await set_fence(store, said, None):
        pass  # it was changed meanwhile
    return said


def _fences(store: EventStore) -> Fences:
    if isinstance(store, Store) and isinstance(store.engine, Fences):
        return store.engine
    message = f"{store!r} cannot keep the appends of other processes away"
    raise NotSupportedError(message)


async def _call(store: EventStore, call: Callable[[], Awaitable[T]]) -> T:
    engine = getattr(store, "engine", None)
    if isinstance(engine, Remote):
        return await retry_lost(call, engine.timeout, repr(store))
    return await call()
