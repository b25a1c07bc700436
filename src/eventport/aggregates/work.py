"""The unit of work: aggregates that are saved together, each of them one object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventport.aggregates.aggregate import Aggregate
from eventport.errors import AggregateExistsError
from eventport.protocols import Session


if TYPE_CHECKING:
    from eventport.aggregates.repository import Repository

A = TypeVar("A", bound=Aggregate[Any])


class Work(Generic[A]):
    """A unit of work on the aggregates of one repository; see `Repository.unit_of_work`."""

    def __init__(
        self, repository: Repository[A], session: Session, aggregates: dict[str, A] | None = None
    ) -> None:
        self.session = session
        """What all is written in: claim keys in it, or append to other streams."""
        self.aggregates: dict[str, A] = {} if aggregates is None else aggregates
        """The aggregates that were loaded or added so far, by id."""
        self._repository = repository

    async def load(self, aggregate_id: str) -> A:
        """Load an aggregate, or return the one that was loaded or added under this id before.

        Raises:
            AggregateNotFoundError: it does not exist.
        """
        if aggregate_id not in self.aggregates:
            loaded = await self._repository._load(self.session, aggregate_id)
            # Two tasks of one unit of work may both have come here: the first one's stands.
            self.aggregates.setdefault(aggregate_id, loaded)
        return self.aggregates[aggregate_id]

    async def load_many(self, aggregate_ids: Iterable[str]) -> list[A]:
        """Load several aggregates, one after the other, in the order of the ids."""
        return [await self.load(aggregate_id) for aggregate_id in aggregate_ids]

    def add(self, aggregate_id: str, aggregate: A) -> None:
        """Let a new aggregate be saved, too, under an id that nobody has taken.

        Raises:
            AggregateExistsError: this unit of work has loaded or added one under this id.
        """
        if aggregate_id in self.aggregates:
            raise AggregateExistsError(self._repository.category, aggregate_id)
        self._repository._give_place(aggregate_id, aggregate)
        self.aggregates[aggregate_id] = aggregate
