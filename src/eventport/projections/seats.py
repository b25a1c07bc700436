"""How processes that run the parts of a projection learn how many they are.

There are as many seats as parts, since more processes would have nothing to do. Each process holds
the lease of one seat, and takes the parts whose number falls to its rank among the seats that are
held. They need not agree at every moment: what a process may handle, only the leases of the parts
decide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eventport.projections.checkpoints import CheckpointStore, Lease, ProjectionId
from eventport.projections.refusals import LeaseLostError


class Share(NamedTuple):
    """Which parts fall to a process."""

    rank: int
    """Its rank among the processes, from 0."""
    processes: int
    """How many processes share the parts."""

    def has(self, part: int) -> bool:
        """Return whether a part falls to it."""
        return part % self.processes == self.rank


class Seats:
    """The seats at which processes are counted.

    Args:
        checkpoints: Where the leases are.
        projection: The whole projection.
        partitions: How many seats there are.
        owner: The process that looks for a seat.
        seconds: How long the lease of a seat lasts.
    """

    def __init__(
        self,
        checkpoints: CheckpointStore[Any],
        projection: ProjectionId,
        partitions: int,
        owner: str,
        seconds: float,
    ) -> None:
        self._checkpoints = checkpoints
        self._places = [
            projection._replace(name=f"{projection.name}/seat-{number}-of-{partitions}")
            for number in range(partitions)
        ]
        self._owner = owner
        self._seconds = seconds
        self._own: ProjectionId | None = None
        self._lease: Lease[Any] | None = None

    async def count(self) -> Share | None:
        """Keep a seat, and return the share that falls to it; None if all seats are held."""
        if self._lease is not None:
            try:
                await self._lease.renew(0)
            except LeaseLostError:  # this process was held up
                self._lease = self._own = None
        held = [place for place in self._places if await self._is_held(place)]
        return None if self._own is None else Share(held.index(self._own), len(held))

    async def leave(self) -> None:
        """Give the seat up."""
        if self._lease is not None:
            lease, self._lease, self._own = self._lease, None, None
            await lease.release()

    async def _is_held(self, place: ProjectionId) -> bool:
        """Return whether a process holds a seat, and take it if none does and none is held here."""
        if place == self._own:
            return True
        has_owner = (await self._checkpoints.load(place)).owner is not None
        if not has_owner and self._own is not None:
            return False
        lease = await self._checkpoints.acquire(place, self._owner, self._seconds)
        if lease is None:
            return True
        if self._own is None:
            self._own, self._lease = place, lease
            return True
        await lease.release()  # its process has died
        return False
