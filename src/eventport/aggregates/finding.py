"""Finding aggregates by their columns, the same for all repositories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from eventport.aggregates.aggregate import Aggregate
from eventport.aggregates.indexing import Index, Move
from eventport.aggregates.saving import in_session
from eventport.protocols import Capability, EventStore, Session, Streams
from eventport.validation import check_int


A = TypeVar("A", bound=Aggregate[Any])


class Finding(ABC, Generic[A]):
    """`find_by`, `list_by` and `reindex`, on top of an index."""

    _store: EventStore
    _index: Index

    @abstractmethod
    def stream(self, aggregate_id: str) -> str:
        """Return the name of an aggregate's stream."""

    @abstractmethod
    async def _load_many(self, streams: Streams, ids: list[str]) -> list[A]:
        """Load aggregates as a store or a session sees them."""

    async def find_by(self, column: str, value: str) -> A | None:
        """Load the aggregate that has a value of a unique column; None if none has it.

        Raises:
            InvalidArgumentError: there is no such unique column.
        """
        owner = await self._index.owner(self._store, column, value)
        return None if owner is None else (await self._load_many(self._store, [owner]))[0]

    async def list_by(
        self, column: str, value: str, *, after: str | None = None, max_count: int = 100
    ) -> list[A]:
        """Load the aggregates that have a value of a plain column, in the order of their ids.

        For the next page, pass the id of the last one as `after`.

        Raises:
            InvalidArgumentError: there is no such plain column.
            NotSupportedError: the backend has no `Capability.CATALOGUE`.
        """
        count = check_int("max_count", max_count)
        ids = await self._index.ids(self._store, column, value, after, count)
        return await self._load_many(self._store, ids)

    async def reindex(self, aggregate_ids: Iterable[str]) -> None:
        """Add what is missing of the columns of aggregates, one commit for each of them.

        It is for events that were written without the index: before it was declared, or by an
        import. What is there and was lost meanwhile stays.

        Raises:
            AggregateNotFoundError: one of them does not exist.
            DuplicateKeyError: a value of a unique column belongs to another aggregate.
        """
        for aggregate_id in aggregate_ids:
            await in_session(self._store, partial(self._reindex, aggregate_id))

    async def _reindex(self, aggregate_id: str, session: Session) -> None:
        (aggregate,) = await self._load_many(session, [aggregate_id])
        if Capability.GUARDS in self._store.capabilities:
            await session.require(self.stream(aggregate_id), aggregate.aggregate_version)
        move = Move(aggregate, aggregate_id, {}, self._index.values(aggregate))
        await self._index.write(session, [move])
