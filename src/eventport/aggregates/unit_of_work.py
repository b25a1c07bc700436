"""The unit of work: aggregates that are saved together, each of them one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

from eventport.aggregates.aggregate import Aggregate
from eventport.protocols import Session


A = TypeVar("A", bound=Aggregate[Any])


class UnitOfWork(Generic[A]):
    """A unit of work on the aggregates of one repository; see `Repository.unit_of_work`.

    Args:
        session: What all is written in.
        load_many: Loads aggregates by their ids, each of which comes once.
        adopt: Gives a new aggregate its id.
        refuse: Makes the error for an id that this unit of work knows already.
        aggregates: Where to keep them; the caller saves them from there.
    """

    def __init__(
        self,
        session: Session,
        load_many: Callable[[list[str]], Awaitable[list[A]]],
        adopt: Callable[[str, A], None],
        refuse: Callable[[str], Exception],
        aggregates: dict[str, A],
    ) -> None:
        self.session = session
        """What all is written in: claim keys in it, or append to other streams."""
        self.aggregates = aggregates
        """The aggregates that were loaded or added so far, by id."""
        self._load_many = load_many
        self._adopt = adopt
        self._refuse = refuse

    async def load(self, aggregate_id: str) -> A:
        """Load an aggregate, or return the one that was loaded or added under this id before.

        Raises:
            AggregateNotFoundError: it does not exist.
        """
        (loaded,) = await self.load_many([aggregate_id])
        return loaded

    async def load_many(self, aggregate_ids: Iterable[str]) -> list[A]:
        """Load several aggregates as `load` does, with as few round trips as can be."""
        ids = list(aggregate_ids)
        missing = [one for one in dict.fromkeys(ids) if one not in self.aggregates]
        if missing:
            for aggregate_id, loaded in zip(missing, await self._load_many(missing), strict=True):
                # Two tasks of one unit of work may both have come here: the first one's stands.
                self.aggregates.setdefault(aggregate_id, loaded)
        return [self.aggregates[aggregate_id] for aggregate_id in ids]

    def add(self, aggregate_id: str, aggregate: A) -> None:
        """Add a new aggregate to what is saved, under an id that no other has.

        Raises:
            AggregateExistsError: this unit of work has loaded or added one under this id.
        """
        if aggregate_id in self.aggregates:
            raise self._refuse(aggregate_id)
        self._adopt(aggregate_id, aggregate)
        self.aggregates[aggregate_id] = aggregate
