"""A store that can be stopped before and after each of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from eventport import EventStore


class Staged:
    """The store that it wraps, but what a test wants happens before and after each call."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.calls: list[str] = []
        """The names of the calls, and of those that have returned."""
        self.at: dict[int, Callable[[], Awaitable[object]]] = {}
        """What happens at a place in the list of calls."""

    @property
    def as_store(self) -> EventStore:
        """This as what it stands for."""
        return cast("EventStore", self)

    @property
    def appends(self) -> int:
        """How many appends were begun."""
        return self.calls.count("append")

    def __getattr__(self, name: str) -> Any:
        """Return what the store has, with the stages around it."""
        inner = getattr(self._store, name)
        if name not in {"append", "read", "aggregate", "query"}:
            return inner

        async def staged(*arguments: Any, **options: Any) -> Any:
            await self._stage(name)
            result = await inner(*arguments, **options)
            await self._stage(f"{name} returned")
            return result

        return staged

    async def _stage(self, name: str) -> None:
        self.calls.append(name)
        if action := self.at.pop(len(self.calls) - 1, None):
            await action()
