"""Mutants that are right until others delete or truncate streams, or settings are unusual."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from eventport import AppendResult, Expectation, NewEvent, RecordedEvent

from eventport_conformance.proof.mutants.base import changed, mutant
from eventport_conformance.proof.reference_data import Writes
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("ODD-04")
class DeletionOverlooked(ReferenceStore):
    """It counts the events of a stream that another program has deleted."""

    def head(self, stream: str) -> int:
        return len(self.database.streams.get(stream, ()))


@mutant("ODD-04")
class AcknowledgesDeletedIds(ReferenceStore):
    """It takes an append of events that were deleted for a retry, and writes nothing."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        stored = self.database.streams.get(stream, [])
        if events and {event.id for event in events} <= {event.id for event in stored}:
            return AppendResult(len(events), 1, created=True, deduplicated=True)
        return await super().append_now(stream, events, expected)


class _ByCounting(ReferenceSession):
    async def commit(self) -> None:
        await super().commit()
        for stream in self.own:
            stored = self.store.database.streams[stream]
            if self.store.select(stream, 1, None, None, backwards=False)[0] != stored[0]:
                message = f"version 1 of {stream!r} is missing"
                raise IndexError(message)


@mutant("ODD-05", "ODD-08")
class WrittenAndRaised(ReferenceStore):
    """Its sessions raise after the commit if a stream does not begin with its first event."""

    def new_session(self) -> ReferenceSession:
        return _ByCounting(self)


@mutant("ODD-06")
class CountsWhatIsLeft(ReferenceStore):
    """It takes the number of the events that are left for the version."""

    def head(self, stream: str) -> int:
        left = len(self.select(stream, 1, None, None, backwards=False))
        return left if stream in self.database.truncated else super().head(stream)


@mutant("ODD-07", "ODD-08")
class HooksGetTheHidden(ReferenceStore):
    """It gives hooks events that nobody can read."""

    def write(self, writes: Writes) -> list[RecordedEvent]:
        recorded = super().write(writes)
        self.hidden = [one for one in recorded if not self.database.is_visible(one)]
        return recorded

    async def call_hooks(self, recorded: Sequence[RecordedEvent]) -> None:
        if self.hidden:
            for hook in self.hooks:
                await hook(self.hidden)
        await super().call_hooks(recorded)


@mutant("ODD-09")
class TrustsTheClock(ReferenceStore):
    """It records the time of its clock, whatever it recorded before."""

    def time_after(self, _: Sequence[RecordedEvent]) -> datetime:
        return datetime.now(UTC) + self.database.clock_offset


@mutant("ODD-11")
class OrdersByTime(ReferenceStore):
    """It puts the events of a page into the order of their times."""

    def after(self, position: int) -> list[RecordedEvent]:
        return sorted(super().after(position), key=lambda event: event.recorded_at)


@mutant("ODD-10")
class RoundsByItsSettings(ReferenceStore):
    """It gives as many digits of a number as a setting of its connection says."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        found = super().hand_out(event)
        if not self.is_odd or not isinstance(found.data, list):
            return found
        data = [round(one, 15) if isinstance(one, float) else one for one in found.data]
        return changed(found, data=data)
