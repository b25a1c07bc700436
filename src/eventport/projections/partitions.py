"""What one runner handles of a projection: all of it, or the events of some keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from eventport.events import RecordedEvent
from eventport.projections.projection import Projection, ProjectionContext


C = TypeVar("C")


class Part(Generic[C]):
    """A part of a projection, with a checkpoint, a lease and dead letters of its own.

    Args:
        whole: The projection; one that is not divided has one part, with its own id.
        number: Which part, from 0.
    """

    def __init__(self, whole: Projection[C], number: int = 0) -> None:
        self.whole: Final = whole
        """The projection that it is a part of."""
        self.id: Final = whole.parts[number]
        """What its checkpoint is kept under."""
        self._number = number
        self._is_divided = whole.partitions > 1

    def wants(self, event: RecordedEvent) -> bool:
        """Return whether to hand an event to `handle`.

        If its key cannot be found, every part takes the event, so that each retries or gives it
        up as the projection says: any of them may have to handle it.
        """
        if not self.whole.wants(event):
            return False
        try:
            return self._has(event)
        except Exception:  # noqa: BLE001  # `handle` raises it again, where it is dealt with
            return True

    async def set_up(self, context: ProjectionContext[C]) -> None:
        """Prepare an undivided projection; the parts of others find it prepared."""
        if not self._is_divided:
            await self.whole.set_up(context)

    async def handle(self, events: Sequence[RecordedEvent], context: ProjectionContext[C]) -> None:
        """Give events to the handlers, in their order, without those of other parts."""
        own = [event for event in events if self._has(event)]
        if own:
            await self.whole.handle(own, context)

    def _has(self, event: RecordedEvent) -> bool:
        return self.whole.part_of(event) == self._number
