"""Mutants that append wrongly, or do not recognise a retry."""

# ruff: noqa: ARG002, D102, FBT003  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AppendResult,
    Expectation,
    InvalidArgumentTypeError,
    NewEvent,
    RecordedEvent,
)
from eventport.adapter import encode_events

from eventport_conformance.proof.mutants.base import (
    changed,
    mutant,
)
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("CAN-02", "CON-06", "CON-05")
class TornAppend(ReferenceStore):
    """It writes the events of an append one by one, and can be interrupted between them."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = None
        for event in events:
            result = await super().append_now(stream, [event], expected)
            if isinstance(expected, int):
                expected += 1
            await checkpoint()
        return result or await super().append_now(stream, events, expected)


@mutant("APP-09", "DAT-23")
class CheckedTooLate(ReferenceStore):
    """It checks the events of an append one by one, while it writes them."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        listed = list(events)
        if any(type(event) is not NewEvent for event in listed):
            return super().take_in(listed)
        return listed

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        (checked,) = super().take_in([event])
        return super().record(stream, checked)


@mutant("APP-03", "APP-04", "APP-05")
class EmptyAppendFails(ReferenceStore):
    """It has no idea of an append of no events."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        taken = super().take_in(events)
        if not taken:
            message = "there are no events"
            raise InvalidArgumentTypeError(message)
        return taken


@mutant("APP-04")
class EmptyAppendCreates(ReferenceStore):
    """It says that an append of no events brought the stream into being."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        self.database.streams.setdefault(stream, [])
        created = result.created or not events
        return AppendResult(result.version, result.position, created, result.deduplicated)


@mutant("APP-06")
class CreatedIfExpected(ReferenceStore):
    """It says that a stream was created if and only if the caller expected none."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        created = expected in {"no_stream", 0}
        return AppendResult(result.version, result.position, created, result.deduplicated)


@mutant("APP-13", "IDM-04")
class PositionOfTheFirst(ReferenceStore):
    """It returns the position of the first event of an append."""

    def result(self, recorded: Sequence[RecordedEvent], *, created: bool) -> AppendResult:
        first, last = recorded[0], recorded[-1]
        return AppendResult(last.version, first.position, created=created, deduplicated=False)


@mutant("APP-10")
class TwinsAccepted(ReferenceStore):
    """It accepts two events of one append with the same id."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, list):
            return [
                taken for event in events for taken in super(TwinsAccepted, self).take_in([event])
            ]
        return super().take_in(events)


@mutant("APP-07")
class GeneratorsConsumedTwice(ReferenceStore):
    """It goes through the events twice, once to check and once to write them."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, Iterator):
            encode_events(events)
            return list(events)
        return super().take_in(events)


@mutant("VER-02", "CON-05")
class VersionOfTheAppend(ReferenceStore):
    """It counts appends, not events."""

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream, event)
        commits = {one.recorded_at for one in self.database.streams[stream]}
        return changed(recorded, version=len(commits))

    def result(self, recorded: Sequence[RecordedEvent], *, created: bool) -> AppendResult:
        result = super().result(recorded, created=created)
        return AppendResult(
            recorded[0].version, result.position, created=created, deduplicated=False
        )


@mutant("IDM-01", "IDM-03")
class RetriesConflict(ReferenceStore):
    """It does not recognise an append that is sent again."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        return None


@mutant("IDM-06", "IDM-07")
class FirstIdDecides(ReferenceStore):
    """It takes an append for a retry if its first event is stored there."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        return super().earlier(stream, expected, events[:1])


@mutant("IDM-12", "EXP-13")
class VersionDecides(ReferenceStore):
    """It takes an append for a retry if there are events at its versions, whichever they are."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        before = 0 if expected == "no_stream" else expected
        if not isinstance(before, int):
            return None
        stored = self.database.streams.get(stream, [])[before : before + len(events)]
        if not events or len(stored) < len(events):
            return None
        return AppendResult(stored[-1].version, stored[-1].position, before == 0, True)


@mutant("IDM-04", "IDM-05")
class RetryTellsTheHead(ReferenceStore):
    """It returns the head for a retry, and not the version of the original."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        result = super().earlier(stream, expected, events)
        if result is None:
            return None
        return AppendResult(self.head(stream), result.position, result.created, True)


@mutant("IDM-09", "IDM-10")
class IdsAreGlobal(ReferenceStore):
    """It takes an append for a retry if its events are stored anywhere."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        known = {event.id: event for event in self.database.log}
        if events and expected != ANY and all(event.id in known for event in events):
            last = known[events[-1].id]
            return AppendResult(last.version, last.position, created=False, deduplicated=True)
        return await super().append_now(stream, events, expected)


@mutant("IDM-08")
class OrderIgnored(ReferenceStore):
    """It compares the ids of a retry as a set."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        places = {e.id: n for n, e in enumerate(self.database.streams.get(stream, ()))}
        ordered = sorted(events, key=lambda event: places.get(event.id, 0))
        return super().earlier(stream, expected, ordered)


@mutant("IDM-14")
class RetriesRace(ReferenceStore):
    """It looks for an earlier try, lets others have a turn, and appends in any case."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        if events and not self.holds(expected, self.head(stream)):
            return await super().append_now(stream, events, expected)
        await checkpoint()
        return await super().append_now(stream, events, ANY)
