"""Mutants that are right for small numbers only, or let a refused append take others with it."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from typing import Any

from anyio.lowlevel import checkpoint

from eventport import (
    AppendResult,
    Expectation,
    NewEvent,
    PayloadTooLargeError,
    Query,
    QueryResult,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import mutant
from eventport_conformance.proof.reference_data import Filter
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("SIZ-05")
class IteratesOnePage(ReferenceStore):
    """It iterates over large events up to the end of the first page."""

    async def iterate(self, stream: str, **asked: Any) -> AsyncGenerator[RecordedEvent, None]:
        size = 0
        async for event in super().iterate(stream, **asked):
            size += len(str(event.data))
            if size > 4_000_000:
                break
            yield event


@mutant("SIZ-06")
class QueriesOnePage(ReferenceStore):
    """Its queries give as many events as fit into a page, and say that there are no more."""

    def find(self, query: Query, after: int, most: int | None, *, backwards: bool) -> QueryResult:
        result = super().find(query, after, most, backwards=backwards)
        size, kept = 0, list[RecordedEvent]()
        for event in result.events:
            size += len(str(event.data))
            if size < 4_000_000:
                kept.append(event)
        return QueryResult(kept, result.position, result.token)


@mutant("SIZ-08")
class KeepsFifteenHundred(ReferenceStore):
    """It keeps 1,500 events of a larger append, and says that it has kept all."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events[:1_500], expected)
        version = result.version + len(events[1_500:])
        return AppendResult(version, result.position, result.created, result.deduplicated)


@mutant("SIZ-09")
class ReadsFiveThousand(ReferenceStore):
    """It does not read beyond version 5,000."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        end = 5_000 if last is None else min(last, 5_000)
        return super().select(stream, first, end, most, backwards=backwards)


@mutant("SIZ-10")
class CommitsTwentyAppends(ReferenceStore):
    """Its sessions commit the first 20 appends."""

    def new_session(self) -> ReferenceSession:
        return _TwentyAppends(self)


class _TwentyAppends(ReferenceSession):
    async def commit(self) -> None:
        del self.writes[20:]
        await super().commit()


@mutant("SIZ-11")
class FiltersByAThousand(ReferenceStore):
    """It filters by the first thousand types, in the order of their names."""

    def matches(self, event: RecordedEvent, wanted: Filter) -> bool:
        few = wanted.types and frozenset(sorted(wanted.types)[:1_000])
        return super().matches(event, replace(wanted, types=few))


@mutant("CON-16")
class RefusedTogether(ReferenceStore):
    """It writes concurrent appends as a batch, and one that is refused takes all with it."""

    is_refused = False

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        try:
            return super().take_in(events)
        except PayloadTooLargeError:
            self.is_refused = True
            raise

    async def append(self, stream: str, events: Iterable[NewEvent], **asked: Any) -> AppendResult:
        self.is_refused = False
        taken = self.take_in(events)
        await checkpoint()
        if self.is_refused:
            message = "an append of the batch is too large"
            raise PayloadTooLargeError(message)
        return await super().append(stream, taken, **asked)
