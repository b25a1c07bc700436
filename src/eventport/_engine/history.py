"""Detects that a store's history was replaced while a subscription follows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from eventport._engine.queries import AllPage, AllQuery
from eventport.errors import HistoryReplacedError, InvalidArgumentError
from eventport.events import RecordedEvent


_REMEDY: Final = (
    "its history was replaced (a restored backup, a failover that lost commits), or the position "
    "is that of another store; to resume, find the last event that both know, and subscribe after "
    "its position"
)


class History:
    """Checks whether a store still holds what a subscription has seen of it.

    Args:
        owner: The store, whose repr stands in errors.
        read: Fetches a page of the global order.
        last_position: Returns a position at or above every event that a caller may know, which may
            be beyond the stable frontier. None if the frontier is that position.
    """

    def __init__(
        self,
        owner: object,
        read: Callable[[AllQuery], Awaitable[AllPage]],
        last_position: Callable[[], Awaitable[int]] | None,
    ) -> None:
        self.owner: Final = owner
        """The store."""
        self._read = read
        self._last_position = last_position

    async def verify(self, after: int, last: RecordedEvent | None) -> None:
        """Raise `HistoryReplacedError` unless the store still holds what was seen.

        Args:
            after: The position that was reached.
            last: The last event that was seen, if there is one.
        """
        try:
            await self._compare(after, last)
        except InvalidArgumentError as exc:
            if last is None:
                raise
            # The backend refuses a position at which no event is, and once there was one.
            message = f"{self.owner!r}: no event is at position {after} any more: {_REMEDY}"
            raise HistoryReplacedError(message) from exc

    async def _compare(self, after: int, last: RecordedEvent | None) -> None:
        head = (await self._read(AllQuery(after, 1))).head
        if after > head and self._last_position is not None:
            head = max(head, await self._last_position())
        if after > head:
            message = (
                f"{self.owner!r}: position {after} is beyond the last event, which is at {head}: "
                f"{_REMEDY}"
            )
            raise HistoryReplacedError(message)
        if last is not None:
            page = await self._read(AllQuery(last.position - 1, 1))
            if [(event.position, event.id) for event in page.events] != [(last.position, last.id)]:
                message = (
                    f"{self.owner!r}: event {last.id} is no longer at position {last.position}: "
                    f"{_REMEDY}"
                )
                raise HistoryReplacedError(message)
