"""Mutants that read, iterate and fold wrongly."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from eventport import (
    AggregateResult,
    NewEvent,
    ReadResult,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import (
    changed,
    mutant,
)
from eventport_conformance.proof.reference_store import ReferenceStore


S = TypeVar("S")


@mutant("REA-02", "REA-06", "ITR-02")
class FromIsExclusive(ReferenceStore):
    """It begins a read after `from_version`."""

    async def read(self, stream: str, *, from_version: int = 1, **asked: Any) -> ReadResult:
        skipped = from_version if from_version == 1 else from_version + 1
        return await super().read(stream, from_version=skipped, **asked)


@mutant("REA-04", "REA-09")
class ToIsACount(ReferenceStore):
    """It takes `to_version` for a count."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, None, None, backwards=backwards)
        return found[:last][:most]


@mutant("REA-06")
class OneTooMany(ReferenceStore):
    """It returns one event more than asked for if there is a lower bound."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        if most and first > 1:
            most += 1
        return super().select(stream, first, last, most, backwards=backwards)


@mutant("REA-15", "REA-11")
class HeadOfTheRange(ReferenceStore):
    """It returns the version of the newest event read as the head."""

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        read = await super().read(stream, **asked)
        return ReadResult(read.events, max((event.version for event in read.events), default=0))


@mutant("REA-07")
class NoCountNoHead(ReferenceStore):
    """It takes a count of 0 for no limit."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        return super().select(stream, first, last, most or None, backwards=backwards)


@mutant("REA-10")
class OldestTurnedRound(ReferenceStore):
    """It counts from the oldest event and then turns the order."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, last, most, backwards=False)
        return found[::-1] if backwards else found


@mutant("REA-17", "ITR-05", "AGG-08", "SIZ-01")
class FirstPageOnly(ReferenceStore):
    """It never fetches a second page."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        return super().select(stream, first, last, most, backwards=backwards)[:500]


@mutant("REA-18", "NAM-03")
class CaseFolded(ReferenceStore):
    """It compares the names of streams as a database with a friendly collation does."""

    def head(self, stream: str) -> int:
        return super().head(stream.casefold().strip())

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream.casefold().strip(), event)
        return changed(recorded, stream=stream)

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        name = stream.casefold().strip()
        return super().select(name, first, last, most, backwards=backwards)


@mutant("REA-20", "SHA-01")
class StaleReads(ReferenceStore):
    """It answers reads from a cache that the last append has not reached."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, last, most, backwards=backwards)
        fresh = max((event.position for event in self.database.log), default=0)
        return [event for event in found if event.position < fresh or event.version == 1]


@mutant("ITR-06", "ITR-10")
class EndlessIteration(ReferenceStore):
    """It goes on with `iterate` into what is appended meanwhile."""

    async def iterate(self, stream: str, **asked: Any) -> AsyncGenerator[RecordedEvent, None]:
        if asked.pop("backwards", False):
            head = (await self.read(stream)).version
            for offset in range(head):
                newest = self.head(stream)
                events = (await self.read(stream, from_version=newest - offset, max_count=1)).events
                for event in events:
                    yield event
            return
        version, last = asked.get("from_version", 1), asked.get("to_version")
        while events := (
            await self.read(stream, from_version=version, to_version=last, max_count=1)
        ).events:
            yield events[0]
            version += 1


@mutant("AGG-04", "AGG-06")
class FoldTellsTheHead(ReferenceStore):
    """It returns the head as the version of a fold that ended before it."""

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        **asked: Any,
    ) -> AggregateResult[S]:
        result = await super().aggregate(stream, evolve, initial, **asked)
        return AggregateResult(result.state, self.head(stream), result.exists)


@mutant("AGG-06")
class FoldedNothingIsNothing(ReferenceStore):
    """It says that a stream does not exist if nothing of it was folded."""

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        **asked: Any,
    ) -> AggregateResult[S]:
        result = await super().aggregate(stream, evolve, initial, **asked)
        return AggregateResult(result.state, result.version, result.version > 0)


@mutant("AGG-09")
class FoldsShareTheirState(ReferenceStore):
    """It makes the first state once, and hands the same object to each later fold."""

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        **asked: Any,
    ) -> AggregateResult[S]:
        if callable(initial):
            kept = vars(self).setdefault("kept", initial())
            return await super().aggregate(stream, evolve, lambda: kept, **asked)
        return await super().aggregate(stream, evolve, initial, **asked)


@mutant("AGG-09")
class FoldsFromAValue(ReferenceStore):
    """It takes a value for the first state, and so lets two folds share it."""

    async def aggregate(
        self, stream: str, evolve: Callable[[S, RecordedEvent], S], initial: Any, **asked: Any
    ) -> AggregateResult[S]:
        first: Any = initial if callable(initial) else lambda: initial
        return await super().aggregate(stream, evolve, first, **asked)
