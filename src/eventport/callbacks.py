"""What programs have a store call: hooks after its commits, and handlers inside of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from eventport.events import RecordedEvent


AfterCommitHook: TypeAlias = Callable[[Sequence[RecordedEvent]], Awaitable[None]]
"""Called with the events of one commit, after it."""


@runtime_checkable
class HookStore(Protocol):
    """A store that calls hooks after its commits."""

    def after_commit(self, hook: AfterCommitHook, /) -> AfterCommitHook:
        """Register a hook that is called once after each commit, in the order of registration.

        It is called by the task that commits, with the events as they were recorded. If it
        raises, that is logged, and the commit stands. It also serves as a decorator.
        """
        ...


@runtime_checkable
class InlineStore(Protocol):
    """A store that runs handlers inside the transactions of its commits."""

    def inline(self, handler: Any, /) -> Any:
        """Register an `InlineHandler`: ``async def handler(events, transaction)``.

        It runs in the transaction of each commit of this store, with the events of that commit as
        they will be read. What it writes there and the events become visible together, or not at
        all: if it raises, the append raises `InlineProjectionError`. It may be called again for a
        commit whose first transaction was undone. Handlers run in the order of registration. It
        also serves as a decorator.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
            NotSupportedError: this store has no such transactions.
        """
        ...
