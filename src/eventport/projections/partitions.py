"""A projection in parts that run in parallel, with the events of one key in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from zlib import crc32

from anyio import create_task_group

from eventport.errors import InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import CheckpointStore, ProjectionId
from eventport.projections.projection import Projection, ProjectionContext
from eventport.projections.runner import Runner
from eventport.projections.supervising import supervise
from eventport.protocols import EventStore
from eventport.validation import check_int


C = TypeVar("C")


def by_stream(event: RecordedEvent) -> str:
    """Return the stream of an event, the key unless another is given."""
    return event.stream


class Partition(Projection[C]):
    """The part of a projection whose keys fall to one number; a `Runner` runs it.

    Args:
        whole: The projection, which has the handlers.
        number: Which part, from 0.
        count: How many parts there are.
        partition_by: Returns the key of an event, the same one each time.
    """

    def __init__(
        self,
        whole: Projection[C],
        number: int,
        count: int,
        partition_by: Callable[[RecordedEvent], str],
    ) -> None:
        super().__init__(
            f"{whole.id.name}/p{number}-of-{count}",
            generation=whole.id.generation,
            prefix=whole.prefix,
            query=whole.query,
            batch_size=whole.batch_size,
            on_poison=whole.on_poison,
            retries=whole.retries,
        )
        self._whole = whole
        self._number = number
        self._count = count
        self._key = partition_by

    @property
    def event_types(self) -> frozenset[str] | None:
        """See `Projection.event_types`."""
        return self._whole.event_types

    def wants(self, event: RecordedEvent) -> bool:
        """Return whether an event is for the projection, and its key falls to this part."""
        if not self._whole.wants(event):
            return False
        # Python's own hash differs between processes.
        return crc32(self._key(event).encode()) % self._count == self._number

    async def set_up(self, target: ProjectionContext[C]) -> None:
        """See `Projection.set_up`."""
        await self._whole.set_up(target)

    async def handle(self, events: Sequence[RecordedEvent], target: ProjectionContext[C]) -> None:
        """See `Projection.handle`."""
        await self._whole.handle(events, target)

    async def check_count(self, checkpoints: CheckpointStore[Any]) -> None:
        """Refuse another number of parts than this generation was begun with, and keep it.

        Raises:
            InvalidArgumentError: it is another one.
        """
        # Kept as a position, which every kind of checkpoint store can keep.
        place = ProjectionId(f"{self._whole.id.name}/partitions", self.id.generation)
        kept = (await checkpoints.load(place)).position
        if not kept:
            await checkpoints.reset(place, self._count)
        elif kept != self._count:
            message = (
                f"{self._whole!r} was begun with {kept} partitions, not {self._count}: raise its "
                "generation to change the number"
            )
            raise InvalidArgumentError(message)


def partition(
    projection: Projection[C],
    count: int,
    partition_by: Callable[[RecordedEvent], str] = by_stream,
) -> list[Partition[C]]:
    """Return the parts of a projection, each with a checkpoint and a lease of its own.

    Args:
        projection: What to divide.
        count: How many parts. To change it or the key, raise the projection's generation.
        partition_by: Returns the key of an event; events of one key are handled in order.
    """
    check_int("count", count, least=1)
    return [Partition(projection, number, count, partition_by) for number in range(count)]


async def run_partitions(
    store: EventStore,
    parts: Sequence[Partition[Any]],
    checkpoints: CheckpointStore[Any],
    *,
    lease: float = 15.0,
) -> None:
    """Run parts of one projection side by side, as `supervise` does; see `partition`.

    Any number of processes may do so: each part is handled by the one that has its lease. One
    that cannot handle an event does not stop the others.

    Raises:
        InvalidArgumentError: this generation was begun with another number of parts.
    """
    for part in parts:
        await part.check_count(checkpoints)
    async with create_task_group() as group:
        for part in parts:
            group.start_soon(supervise, Runner(store, part, checkpoints, lease=lease))
