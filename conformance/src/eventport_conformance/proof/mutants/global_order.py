"""Mutants whose global order is wrong."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from anyio.lowlevel import checkpoint

from eventport import (
    AllResult,
    AppendResult,
    Expectation,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import (
    changed,
    mutant,
)
from eventport_conformance.proof.reference_data import Filter
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("GLO-02", "GLO-03")
class PositionsByStream(ReferenceStore):
    """It has no positions but the versions of the streams."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return changed(super().hand_out(event), position=event.version)


@mutant("GLO-03", "GLO-06", "SUB-04")
class AfterIsInclusive(ReferenceStore):
    """It begins at the position after which it should begin."""

    def after(self, position: int) -> list[RecordedEvent]:
        return [event for event in self.database.log if event.position >= (position or 1)]


@mutant("GLO-13")
class PositionStaysWithoutMatch(ReferenceStore):
    """It does not move on if nothing matched."""

    async def read_all(self, *, after: int = 0, **asked: Any) -> AllResult:
        result = await super().read_all(after=after, **asked)
        return result if result.events else AllResult([], after)


@mutant("GLO-10", "MOD-04")
class PrefixIsAPattern(ReferenceStore):
    """It looks for prefixes with a LIKE that takes an underscore for any character."""

    def matches(self, event: RecordedEvent, wanted: Filter) -> bool:
        start = wanted.prefix or ""
        like = len(event.stream) >= len(start) and all(
            one in {"_", "%"} or one == found
            for one, found in zip(start, event.stream, strict=False)
        )
        return like and super().matches(event, replace(wanted, prefix=None))


@mutant("GLO-12")
class CountedBeforeTheFilter(ReferenceStore):
    """It counts what it looks at, and not what matches."""

    async def read_all(self, *, after: int = 0, max_count: int = 1000, **asked: Any) -> AllResult:
        looked = await super().read_all(after=after, max_count=max_count)
        result = await super().read_all(after=after, max_count=max_count, **asked)
        events = [event for event in result.events if event.position <= looked.position]
        return AllResult(events, looked.position)


@mutant("GLO-21")
class EndlessIterateAll(ReferenceStore):
    """It goes on with `iterate_all` into what is appended meanwhile."""

    async def iterate_all(
        self, *, after: int = 0, **asked: Any
    ) -> AsyncGenerator[RecordedEvent, None]:
        while True:
            result = await self.read_all(after=after, max_count=1, **asked)
            for event in result.events:
                yield event
            if not result.events:
                return
            after = result.position


@mutant("GLO-05")
class ZeroIsAThousand(ReferenceStore):
    """It takes a count of 0 for the default."""

    async def read_all(self, *, max_count: int = 1000, **asked: Any) -> AllResult:
        return await super().read_all(max_count=max_count or 1000, **asked)


@mutant("GLO-15")
class FarAheadIsReset(ReferenceStore):
    """It goes back to its own end if asked for what comes after it."""

    async def read_all(self, *, after: int = 0, **asked: Any) -> AllResult:
        result = await super().read_all(after=after, **asked)
        return AllResult(result.events, min(result.position, max(self.last_position(), 0)))


_uncommitted: Final[set[UUID]] = set()


@mutant("CON-07", "CON-09", "SHA-08")
class GapAtTheTail(ReferenceStore):
    """It takes positions before it commits, so that later ones can be seen first."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        if events and not result.deduplicated and len(self.database.log) % 3 == 0:
            hidden = {event.id for event in events}
            _uncommitted.update(hidden)
            # Until there is a later event, and readers have had a turn; the last one has none.
            for _ in range(100):
                await checkpoint()
                if self.database.log[-1].position > (result.position or 0):
                    break
            for _ in range(3):
                await checkpoint()
            _uncommitted.difference_update(hidden)
        return result

    def after(self, position: int) -> list[RecordedEvent]:
        return [event for event in super().after(position) if event.id not in _uncommitted]
