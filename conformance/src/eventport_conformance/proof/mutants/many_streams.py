"""Mutants that read many streams in another way than one by one."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from eventport import AggregateResult, ReadResult, RecordedEvent

from eventport_conformance.proof.mutants.base import mutant
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


S = TypeVar("S")


class _Reading(ReferenceStore):
    """A store that reads many streams in its own way, and folds what it reads."""

    async def aggregate_many(
        self,
        streams: Iterable[str],
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
    ) -> dict[str, AggregateResult[S]]:
        found: dict[str, AggregateResult[S]] = {}
        await super().aggregate_many([], evolve, initial)
        for name, one in (await self.read_many(streams)).items():
            state = initial()
            for event in one.events:
                state = evolve(state, event)
            found[name] = AggregateResult(state, one.version, one.exists)
        return found


@mutant("MNY-01")
class MissingLeftOut(_Reading):
    """It leaves out streams that do not exist."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        found = await super().read_many(streams)
        return {name: one for name, one in found.items() if one.exists}


@mutant("MNY-01")
class ManyByName(_Reading):
    """It returns streams in the order of their names."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        return dict(sorted((await super().read_many(streams)).items()))


@mutant("MNY-02")
class HundredRead(_Reading):
    """It finds nothing in the streams after the hundredth."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        found = await super().read_many(streams)
        none = ReadResult([], 0)
        return {
            name: one if place < 100 else none for place, (name, one) in enumerate(found.items())
        }


@mutant("MNY-03")
class FirstPagesOnly(_Reading):
    """It reads a thousand events of a stream, and not the rest."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        found = await super().read_many(streams)
        return {name: ReadResult(one.events[:1000], one.version) for name, one in found.items()}


@mutant("MNY-03")
class HeadsOfPages(_Reading):
    """It takes the last event that it has read for the head, where large events fill a page."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        left = 1_000_000
        found: dict[str, ReadResult] = {}
        for name, one in (await super().read_many(streams)).items():
            events: list[RecordedEvent] = []
            for event in one.events:
                left -= len(str(event.data))
                if left > 0:
                    events.append(event)
            found[name] = ReadResult(events, events[-1].version if events else 0)
        return found


@mutant("MNY-01")
class OneStateForAll(ReferenceStore):
    """It makes one initial state, and goes on with it."""

    async def aggregate_many(
        self, streams: Iterable[str], evolve: Any, initial: Any
    ) -> dict[str, AggregateResult[Any]]:
        found: dict[str, AggregateResult[Any]] = {}
        await super().aggregate_many([], evolve, initial)
        state = initial()
        for name, one in (await self.read_many(streams)).items():
            for event in one.events:
                state = evolve(state, event)
            found[name] = AggregateResult(state, one.version, one.exists)
        return found


class _PastTheSession(ReferenceSession):
    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        await self.turn()
        return {
            name: ReadResult(
                self.store.select(name, 1, None, None, backwards=False), self.store.head(name)
            )
            for name in streams
        }


@mutant("MNY-04", "MNY-05")
class ManyPastTheSession(ReferenceStore):
    """It reads many streams past the session, as they are stored."""

    def new_session(self) -> ReferenceSession:
        return _PastTheSession(self)


@mutant("MNY-06")
class TextAsNames(_Reading):
    """It takes text for a list of names, each of them a character."""

    async def read_many(self, streams: Any) -> dict[str, ReadResult]:
        return await super().read_many([*streams] if isinstance(streams, str) else streams)


@mutant("MNY-07")
class HeadsReadLater(_Reading):
    """It asks for the heads after the events."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        names = list(streams)
        found = await super().read_many(names)
        for _ in range(3):
            await self.turn()
        return {name: ReadResult(one.events, self.head(name)) for name, one in found.items()}


@mutant("MNY-08")
class TruncationForgotten(_Reading):
    """It reads what was truncated, too."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        found = await super().read_many(streams)
        return {
            name: ReadResult(self.database.streams.get(name, []), one.version)
            for name, one in found.items()
        }


@mutant("MNY-09")
class ManyAfterClosing(ReferenceStore):
    """It reads many streams after it was closed."""

    async def read_many(self, streams: Iterable[str]) -> dict[str, ReadResult]:
        closed, self.closed = self.closed, False
        try:
            return await super().read_many(streams)
        finally:
            self.closed = closed
