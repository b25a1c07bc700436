"""Appends that take effect once, however often they are made, on any backend.

An effect comes after its cause in the order of the store. So it is enough to look for its id among
the events of its stream that follow the cause, and to append at the version that was seen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final
from uuid import UUID

from eventport.conflicts import ATTEMPTS, retry_conflicts
from eventport.errors import ConcurrencyError
from eventport.events import NewEvent
from eventport.protocols import EventStore
from eventport.turns import turn


_FIRST_PAGE: Final = 20
_PAGE: Final = 500

_STREAMS: Final = 1_000
"""How many streams are remembered at most."""

_IDS: Final = 10_000
"""Above how many ids those that no later cause can have are forgotten."""


class _Seen:
    """The ids of a stream's events after a position."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.version = 0
        self.ids: dict[UUID, int] = {}
        self._limit = _IDS

    def raise_floor(self, position: int) -> None:
        """Forget what is not after a position, now and then."""
        if len(self.ids) > self._limit:
            self.floor = position
            self.ids = {id_: at for id_, at in self.ids.items() if at > position}
            self._limit = max(_IDS, 2 * len(self.ids))


class Once:
    """Appends events unless they are there already.

    What was seen of a stream is kept, so that a long backlog of causes for one stream does not
    read it anew for each of them.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def forget(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    async def append(
        self,
        stream: str,
        id_: UUID,
        make: Callable[[], Awaitable[Sequence[NewEvent]]],
        *,
        after: int,
    ) -> bool:
        """Append what `make` returns, unless an event with an id is there; return whether it did.

        Args:
            stream: Where to.
            id_: The id of the first event that `make` returns.
            make: Makes the events; none if there is nothing to append. It runs again after a
                conflict.
            after: The position of the cause.
        """

        async def attempt() -> bool:
            seen = await self._look(stream, after)
            if id_ in seen.ids:
                return False
            events = await make()
            if not events:
                return False
            try:
                appended = await self._store.append(stream, events, expected=seen.version)
            except ConcurrencyError:
                self._seen.pop(stream, None)
                raise
            seen.version = appended.version
            seen.ids.update({event.id: appended.position or 0 for event in events})
            return True

        async with turn(self._store, stream):
            return await retry_conflicts(self._store, attempt, attempts=ATTEMPTS)

    async def _look(self, stream: str, after: int) -> _Seen:
        """Return what is in a stream after a position, and its head."""
        seen = self._seen.get(stream)
        if seen is None or after < seen.floor:
            seen = self._seen[stream] = await self._look_back(stream, after)
            if len(self._seen) > _STREAMS:
                self._seen.popitem(last=False)
            return seen
        self._seen.move_to_end(stream)
        seen.raise_floor(after)
        newer = self._store.iterate(stream, from_version=seen.version + 1)
        async with aclosing(newer) as events:
            async for event in events:
                seen.ids[event.id] = event.position
                seen.version = event.version
        return seen

    async def _look_back(self, stream: str, after: int) -> _Seen:
        seen = _Seen(after)
        found = await self._store.read(stream, backwards=True, max_count=_FIRST_PAGE)
        seen.version = found.version
        while found.events:
            for event in found.events:
                if event.position <= after:
                    return seen
                seen.ids[event.id] = event.position
            oldest = found.events[-1].version
            if oldest == 1:
                break
            found = await self._store.read(
                stream, to_version=oldest - 1, backwards=True, max_count=_PAGE
            )
        return seen
