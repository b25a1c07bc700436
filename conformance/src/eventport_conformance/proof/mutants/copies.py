"""Stores that are wrong about the times of copies."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from eventport import CopiedEvent, NewEvent, RecordedEvent

from eventport_conformance.proof.mutants.base import changed, mutant
from eventport_conformance.proof.reference_data import Writes
from eventport_conformance.proof.reference_store import MinimalStore, ReferenceStore


@mutant("CPY-01", "CPY-03", "CPY-05")
class CopiesStampedAnew(ReferenceStore):
    """It takes copies, and silently gives them the time of their commit."""

    def time(self, stream: str, event: NewEvent) -> datetime:
        del stream, event
        return datetime.now(UTC)


@mutant("CPY-03")
class CopiesNeverGoBack(ReferenceStore):
    """It moves a copy to the time of the event before it."""

    def time(self, stream: str, event: NewEvent) -> datetime:
        stored = self.database.streams.get(stream, [])
        return max([super().time(stream, event), *(one.recorded_at for one in stored[-1:])])


@mutant("CPY-04")
class OneTimeForAll(ReferenceStore):
    """It gives all events of an append the time of its first one."""

    def write(self, writes: Writes) -> list[RecordedEvent]:
        new = [(stream, _with_one_time(events)) for stream, events in writes]
        return super().write(new)


@mutant("CPY-01", "CPY-08")
class SecondsOfCopies(ReferenceStore):
    """It keeps the times of copies to the second."""

    def time(self, stream: str, event: NewEvent) -> datetime:
        time = super().time(stream, event)
        return time.replace(microsecond=0) if isinstance(event, CopiedEvent) else time


@mutant("CPY-02")
class LogOfItsOwn(ReferenceStore):
    """It shows the time of the commit in the order of all events."""

    def after(self, position: int) -> list[RecordedEvent]:
        now = datetime.now(UTC)
        return [changed(event, recorded_at=now) for event in super().after(position)]


@mutant("CPY-05")
class SessionsStampCopies(ReferenceStore):
    """Its sessions forget the times of copies."""

    def time(self, stream: str, event: NewEvent) -> datetime:
        time = super().time(stream, event)
        late = stream == "data" and time.second in {6, 7}
        return datetime.now(UTC) if late else time


@mutant("CPY-06")
class HooksSeeAnotherTime(ReferenceStore):
    """Its hooks get copies with the time of the commit."""

    async def call_hooks(self, recorded: Sequence[RecordedEvent]) -> None:
        now = datetime.now(UTC)
        await super().call_hooks([changed(event, recorded_at=now) for event in recorded])


@mutant("CPY-08")
class LocalTimes(ReferenceStore):
    """It takes a time without a zone for one in UTC."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, list):
            events = [_in_utc(event) for event in events]
        return super().take_in(events)


@mutant("CPY-09")
class CopiesInSilence(MinimalStore):
    """It cannot keep the times of copies, and does not say so."""

    def check_copies(self, events: Iterable[NewEvent]) -> None:
        del events

    def time(self, stream: str, event: NewEvent) -> datetime:
        del stream, event
        return datetime.now(UTC)


def _with_one_time(events: Sequence[NewEvent]) -> list[NewEvent]:
    first = events[0]
    if not isinstance(first, CopiedEvent):
        return list(events)
    time = first.recorded_at
    return [
        CopiedEvent(one.type, one.data, one.metadata, one.id, recorded_at=time) for one in events
    ]


def _in_utc(event: NewEvent) -> NewEvent:
    if isinstance(event, CopiedEvent) and event.recorded_at.tzinfo is None:
        return replace(event, recorded_at=event.recorded_at.replace(tzinfo=UTC))
    return event
