"""Stores with one bug each. The bugs are those that stores really have, or had."""

# ruff: noqa: ARG002, BLE001, D102, FBT003  # they override methods, and do it wrong

from __future__ import annotations

import math

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from unicodedata import normalize
from uuid import UUID

import msgspec

from anyio import CancelScope, get_cancelled_exc_class, sleep
from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AggregateResult,
    AllResult,
    AppendResult,
    Capability,
    ConcurrencyError,
    Expectation,
    InvalidArgumentTypeError,
    NewEvent,
    ReadResult,
    RecordedEvent,
    Session,
    StoreUnavailableError,
)
from eventport.codec import encode_events

from eventport_conformance.proof.plain import (
    Database,
    Hook,
    HumbleStore,
    PlainSession,
    PlainStore,
    PlainSubscription,
    Writes,
)


S = TypeVar("S")
Store = TypeVar("Store", bound=type[PlainStore])


@dataclass(frozen=True)
class Bug:
    """A store with a bug, and who finds it."""

    store: type[PlainStore]
    killed_by: tuple[str, ...]
    """Clauses that do not hold of it; there may be more."""

    @property
    def name(self) -> str:
        """How the bug is called."""
        return self.store.__name__

    @property
    def sentence(self) -> str:
        """What is wrong."""
        return (self.store.__doc__ or "").strip()


BUGS: Final[list[Bug]] = []


def planted(*killed_by: str) -> Callable[[Store], Store]:
    """Register a store with a bug, with clauses that find it."""

    def register(store: Store) -> Store:
        BUGS.append(Bug(store, killed_by))
        return store

    return register


def _cut(name: Any) -> Any:
    return name[:500] if isinstance(name, str) else name


def _uuid(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) else value


def _with(event: RecordedEvent, **changes: Any) -> RecordedEvent:
    changed: RecordedEvent = msgspec.structs.replace(event, **changes)
    return changed


# Expectations.


@planted("CON-01", "CON-02", "CON-10", "CON-15")
class RacingStore(PlainStore):
    """It checks the expectation, lets others have a turn, and then writes."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        head = self.head(stream)
        if events and self.holds(expected, head):
            await checkpoint()
            return self.result(self.write([(stream, events)]), created=head == 0)
        return await super().append_now(stream, events, expected)


@planted("EXP-03", "CON-01")
class NoStreamIgnored(PlainStore):
    """It does not enforce `no_stream`."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return expected == "no_stream" or super().holds(expected, head)


@planted("EXP-07")
class StreamExistsIgnored(PlainStore):
    """It does not enforce `stream_exists`."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return expected == "stream_exists" or super().holds(expected, head)


@planted("EXP-05")
class ZeroIsFalsy(PlainStore):
    """It takes version 0 for no expectation."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return not expected or super().holds(expected, head)


@planted("EXP-10", "EXP-11")
class LaterVersionAccepted(PlainStore):
    """It accepts an expected version beyond the head."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return super().holds(expected, head) or (isinstance(expected, int) and expected > head)


@planted("EXP-03", "EXP-10", "SES-14")
class ActualIsGuessed(PlainStore):
    """It tells a version that it has not looked up in its conflicts."""

    def conflict(self, stream: str, expected: Expectation, head: int) -> ConcurrencyError:
        return ConcurrencyError(stream, expected, expected if isinstance(expected, int) else 0)


@planted("CON-03", "CON-04")
class SpuriousConflict(PlainStore):
    """It takes the unique violation of a race for a conflict of an append that expects nothing."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        head = self.head(stream)
        await checkpoint()
        if self.head(stream) != head:
            raise self.conflict(stream, expected, self.head(stream))
        return await super().append_now(stream, events, expected)


@planted("EXP-16")
class EmptyAppendUnchecked(PlainStore):
    """It does not check the expectation of an append of no events."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        return await super().append_now(stream, events, expected if events else ANY)


@planted("EXP-19")
class RangeExpected(PlainStore):
    """It compares what a read expects with the last event read."""

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        expected = asked.pop("expected", ANY)
        read = await super().read(stream, **asked)
        last = read.events[-1].version if read.events else 0
        if not self.holds(expected, last):
            raise self.conflict(stream, expected, last)
        return read


@planted("EXP-17", "EXP-18")
class ReadUnchecked(PlainStore):
    """It does not check what a read expects."""

    async def read(self, stream: str, *, expected: Expectation = ANY, **asked: Any) -> ReadResult:
        del expected
        return await super().read(stream, **asked)


# Append.


@planted("CAN-02", "CON-06", "CON-05")
class TornAppend(PlainStore):
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


@planted("APP-09", "DAT-23")
class CheckedTooLate(PlainStore):
    """It checks the events of an append one by one, while it writes them."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        listed = list(events)
        if any(type(event) is not NewEvent for event in listed):
            return super().take_in(listed)
        return listed

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        (checked,) = super().take_in([event])
        return super().record(stream, checked)


@planted("APP-03", "APP-04", "APP-05")
class EmptyAppendFails(PlainStore):
    """It has no idea of an append of no events."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        taken = super().take_in(events)
        if not taken:
            message = "there are no events"
            raise InvalidArgumentTypeError(message)
        return taken


@planted("APP-04")
class EmptyAppendCreates(PlainStore):
    """It says that an append of no events brought the stream into being."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        self.database.streams.setdefault(stream, [])
        created = result.created or not events
        return AppendResult(result.version, result.position, created, result.deduplicated)


@planted("APP-06")
class CreatedIfExpected(PlainStore):
    """It says that a stream was created if and only if the caller expected none."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        created = expected in {"no_stream", 0}
        return AppendResult(result.version, result.position, created, result.deduplicated)


@planted("APP-13", "IDM-04")
class PositionOfTheFirst(PlainStore):
    """It returns the position of the first event of an append."""

    def result(self, recorded: Sequence[RecordedEvent], *, created: bool) -> AppendResult:
        first, last = recorded[0], recorded[-1]
        return AppendResult(last.version, first.position, created=created, deduplicated=False)


@planted("APP-10")
class TwinsAccepted(PlainStore):
    """It accepts two events of one append with the same id."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, list):
            return [
                taken for event in events for taken in super(TwinsAccepted, self).take_in([event])
            ]
        return super().take_in(events)


@planted("APP-07")
class GeneratorsConsumedTwice(PlainStore):
    """It goes through the events twice, once to check and once to write them."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, Iterator):
            encode_events(events)
            return list(events)
        return super().take_in(events)


@planted("VER-02", "CON-05")
class VersionOfTheAppend(PlainStore):
    """It counts appends, not events."""

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream, event)
        commits = {one.recorded_at for one in self.database.streams[stream]}
        return _with(recorded, version=len(commits))

    def result(self, recorded: Sequence[RecordedEvent], *, created: bool) -> AppendResult:
        result = super().result(recorded, created=created)
        return AppendResult(
            recorded[0].version, result.position, created=created, deduplicated=False
        )


# Retries.


@planted("IDM-01", "IDM-03")
class RetriesConflict(PlainStore):
    """It does not recognise an append that is sent again."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        return None


@planted("IDM-06", "IDM-07")
class FirstIdDecides(PlainStore):
    """It takes an append for a retry if its first event stands there."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        return super().earlier(stream, expected, events[:1])


@planted("IDM-12", "EXP-13")
class VersionDecides(PlainStore):
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


@planted("IDM-04", "IDM-05")
class RetryTellsTheHead(PlainStore):
    """It returns the head for a retry, and not the version of the original."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        result = super().earlier(stream, expected, events)
        if result is None:
            return None
        return AppendResult(self.head(stream), result.position, result.created, True)


@planted("IDM-09", "IDM-10")
class IdsAreGlobal(PlainStore):
    """It takes an append for a retry if its events stand anywhere."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        known = {event.id: event for event in self.database.log}
        if events and expected != ANY and all(event.id in known for event in events):
            last = known[events[-1].id]
            return AppendResult(last.version, last.position, created=False, deduplicated=True)
        return await super().append_now(stream, events, expected)


@planted("IDM-08")
class OrderIgnored(PlainStore):
    """It compares the ids of a retry as a set."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        places = {e.id: n for n, e in enumerate(self.database.streams.get(stream, ()))}
        ordered = sorted(events, key=lambda event: places.get(event.id, 0))
        return super().earlier(stream, expected, ordered)


@planted("IDM-14")
class RetriesRace(PlainStore):
    """It looks for an earlier try, lets others have a turn, and appends in any case."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        if events and not self.holds(expected, self.head(stream)):
            return await super().append_now(stream, events, expected)
        await checkpoint()
        return await super().append_now(stream, events, ANY)


# Reads.


@planted("REA-02", "REA-06", "ITR-02")
class FromIsExclusive(PlainStore):
    """It begins a read behind `from_version`."""

    async def read(self, stream: str, *, from_version: int = 1, **asked: Any) -> ReadResult:
        skipped = from_version if from_version == 1 else from_version + 1
        return await super().read(stream, from_version=skipped, **asked)


@planted("REA-04", "REA-09")
class ToIsACount(PlainStore):
    """It takes `to_version` for a count."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, None, None, backwards=backwards)
        return found[:last][:most]


@planted("REA-06")
class OneTooMany(PlainStore):
    """It gives one event more than asked for if there is a lower bound."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        if most and first > 1:
            most += 1
        return super().select(stream, first, last, most, backwards=backwards)


@planted("REA-15", "REA-11")
class HeadOfTheRange(PlainStore):
    """It tells the version of the newest event read for the head."""

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        read = await super().read(stream, **asked)
        return ReadResult(read.events, max((event.version for event in read.events), default=0))


@planted("REA-07")
class NoCountNoHead(PlainStore):
    """It takes a count of 0 for no limit."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        return super().select(stream, first, last, most or None, backwards=backwards)


@planted("REA-10")
class OldestTurnedRound(PlainStore):
    """It counts from the oldest event and then turns the order."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, last, most, backwards=False)
        return found[::-1] if backwards else found


@planted("REA-17", "ITR-05", "AGG-08", "SIZ-01")
class FirstPageOnly(PlainStore):
    """It never fetches a second page."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        return super().select(stream, first, last, most, backwards=backwards)[:500]


@planted("REA-18", "NAM-03")
class CaseFolded(PlainStore):
    """It compares the names of streams as a database with a friendly collation does."""

    def head(self, stream: str) -> int:
        return super().head(stream.casefold().strip())

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream.casefold().strip(), event)
        return _with(recorded, stream=stream)

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        name = stream.casefold().strip()
        return super().select(name, first, last, most, backwards=backwards)


@planted("REA-20", "SHA-01")
class StaleReads(PlainStore):
    """It answers reads from a cache that the last append has not reached."""

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        found = super().select(stream, first, last, most, backwards=backwards)
        fresh = max((event.position for event in self.database.log), default=0)
        return [event for event in found if event.position < fresh or event.version == 1]


@planted("ITR-06", "ITR-10")
class EndlessIteration(PlainStore):
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


@planted("AGG-04", "AGG-06")
class FoldTellsTheHead(PlainStore):
    """It tells the head for the version of a fold that ended before it."""

    async def aggregate(
        self,
        stream: str,
        evolve: Callable[[S, RecordedEvent], S],
        initial: Callable[[], S],
        **asked: Any,
    ) -> AggregateResult[S]:
        result = await super().aggregate(stream, evolve, initial, **asked)
        return AggregateResult(result.state, self.head(stream), result.exists)


@planted("AGG-06")
class FoldedNothingIsNothing(PlainStore):
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


@planted("AGG-09")
class FoldsShareTheirState(PlainStore):
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


@planted("AGG-09")
class FoldsFromAValue(PlainStore):
    """It takes a value for the first state, and so lets two folds share it."""

    async def aggregate(
        self, stream: str, evolve: Callable[[S, RecordedEvent], S], initial: Any, **asked: Any
    ) -> AggregateResult[S]:
        first: Callable[[], S] = initial if callable(initial) else lambda: initial
        return await super().aggregate(stream, evolve, first, **asked)


# The global order.


@planted("GLO-02", "GLO-03")
class PositionsByStream(PlainStore):
    """It has no positions but the versions of the streams."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return _with(super().hand_out(event), position=event.version)


@planted("GLO-03", "GLO-06", "SUB-04")
class AfterIsInclusive(PlainStore):
    """It begins at the position that it should begin behind."""

    def behind(self, position: int) -> list[RecordedEvent]:
        return [event for event in self.database.log if event.position >= (position or 1)]


@planted("GLO-13")
class PositionStaysWithoutMatch(PlainStore):
    """It does not move on if nothing matched."""

    async def read_all(self, *, after: int = 0, **asked: Any) -> AllResult:
        result = await super().read_all(after=after, **asked)
        return result if result.events else AllResult([], after)


@planted("GLO-10", "MOD-04")
class PrefixIsAPattern(PlainStore):
    """It looks for prefixes with a LIKE that takes an underscore for any character."""

    def matches(
        self, event: RecordedEvent, types: frozenset[str] | None, prefix: str | None
    ) -> bool:
        start = prefix or ""
        like = len(event.stream) >= len(start) and all(
            wanted in {"_", "%"} or wanted == found
            for wanted, found in zip(start, event.stream, strict=False)
        )
        return like and super().matches(event, types, None)


@planted("GLO-12")
class CountedBeforeTheFilter(PlainStore):
    """It counts what it looks at, and not what matches."""

    async def read_all(self, *, after: int = 0, max_count: int = 1000, **asked: Any) -> AllResult:
        looked = await super().read_all(after=after, max_count=max_count)
        result = await super().read_all(after=after, max_count=max_count, **asked)
        events = [event for event in result.events if event.position <= looked.position]
        return AllResult(events, looked.position)


@planted("GLO-21")
class EndlessIterateAll(PlainStore):
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


@planted("GLO-05")
class ZeroIsAThousand(PlainStore):
    """It takes a count of 0 for the default."""

    async def read_all(self, *, max_count: int = 1000, **asked: Any) -> AllResult:
        return await super().read_all(max_count=max_count or 1000, **asked)


@planted("GLO-15")
class FarAheadIsReset(PlainStore):
    """It goes back to its own end if asked for what lies behind it."""

    async def read_all(self, *, after: int = 0, **asked: Any) -> AllResult:
        result = await super().read_all(after=after, **asked)
        return AllResult(result.events, min(result.position, max(self.last_position(), 0)))


_uncommitted: Final[set[UUID]] = set()


@planted("CON-07", "CON-09", "SHA-08")
class GapAtTheTail(PlainStore):
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

    def behind(self, position: int) -> list[RecordedEvent]:
        return [event for event in super().behind(position) if event.id not in _uncommitted]


# Subscriptions.


class _Subscribing(PlainStore):
    """A store with a subscription of its own."""

    subscription: type[PlainSubscription]

    def new_subscription(
        self, after: int, types: frozenset[str] | None, prefix: str | None
    ) -> PlainSubscription:
        return self.subscription(self, after, types, prefix)


class _Deaf(PlainSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        await checkpoint()
        await checkpoint()
        await self.store.database.signal.wait(self.store.database.signal.count, None)


@planted("SUB-21")
class LostWakeUp(_Subscribing):
    """It loses what is written between a look and the wait that follows."""

    subscription = _Deaf


class _Impatient(PlainSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        self.left = True


@planted("SUB-01", "SUB-20")
class EndsWhenIdle(_Subscribing):
    """It ends a subscription that has nothing to give."""

    subscription = _Impatient


class _Repeating(PlainSubscription):
    was_live = False

    async def wait(self, seen: int) -> None:
        await super().wait(seen)
        if not self.was_live:
            self.was_live = True
            self.position = max(self.position - 3, 0)


@planted("SUB-03")
class RepeatedAtTheSeam(_Subscribing):
    """It gives the last event of the past again as the first one of the present."""

    subscription = _Repeating


class _Boasting(PlainSubscription):
    async def begin(self) -> None:
        self.caught_up.set()
        await super().begin()


@planted("SUB-07", "SUB-08")
class CaughtUpAtOnce(_Subscribing):
    """It says that it has caught up when it begins."""

    subscription = _Boasting


class _Forgetful(PlainSubscription):
    async def __anext__(self) -> RecordedEvent:
        event = await super().__anext__()
        await checkpoint()
        return event


@planted("CAN-16")
class CancelledWaitLoses(_Subscribing):
    """It moves on before it can be sure that the reader gets the event."""

    subscription = _Forgetful


class _Dropping(PlainSubscription):
    def find(self) -> RecordedEvent | None:
        behind = len(self.store.behind(self.position))
        if behind > 1000:
            self.position += 3 * (behind - 1000)
        return super().find()


@planted("SUB-16")
class SlowReadersLose(_Subscribing):
    """It drops the oldest events for a reader that is more than a thousand behind."""

    subscription = _Dropping


class _Careless(PlainSubscription):
    def find(self) -> RecordedEvent | None:
        if self.caught_up.is_set():
            self.types = None
        return super().find()


@planted("SUB-05")
class LiveIsUnfiltered(_Subscribing):
    """It filters the past only."""

    subscription = _Careless


class _Lagging(PlainSubscription):
    def find(self) -> RecordedEvent | None:
        before = self.position
        event = super().find()
        if event is None:
            self.position = before
        return event


@planted("SUB-11")
class FilteredIsNotPassed(_Subscribing):
    """Its position does not move past what the filter leaves out."""

    subscription = _Lagging


class _Stubborn(PlainSubscription):
    async def wait(self, seen: int) -> None:
        with CancelScope(shield=True):
            await self.store.database.signal.wait(seen, 2.5)
        await checkpoint()


@planted("CAN-09")
class CannotBeCancelled(_Subscribing):
    """It shields the wait for events from cancellation."""

    subscription = _Stubborn


class _Undying(PlainSubscription):
    def __setattr__(self, name: str, value: object) -> None:
        if (name, value) != ("left", True):
            super().__setattr__(name, value)


@planted("SUB-13")
class LeavingDoesNotEnd(_Subscribing):
    """It does not let go of a reader that waits when the block is left."""

    subscription = _Undying


# Sessions.


class _WithSession(PlainStore):
    """A store with a session of its own."""

    unit: type[PlainSession]

    def new_session(self) -> PlainSession:
        return self.unit(self)


class _WritingAtOnce(PlainSession):
    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.store.write([(stream, events)])
        self.pins[stream] = self.store.head(stream)


@planted("SES-02", "SES-09", "SES-24", "CAN-13")
class NoTransaction(_WithSession):
    """Its sessions write at once: a session is but a connection."""

    unit = _WritingAtOnce


class _OneByOne(PlainSession):
    async def commit(self) -> None:
        for stream, events in self.writes:
            await self.store.turn()
            if self.store.head(stream) != self.pins[stream]:
                raise self.store.conflict(stream, self.pins[stream], self.store.head(stream))
            self.position = self.store.write([(stream, events)])[-1].position
            self.pins[stream] += len(events)


@planted("SES-24", "CAN-05", "SES-30")
class StreamByStream(_WithSession):
    """Its sessions commit one stream after the other."""

    unit = _OneByOne


class _Blind(PlainSession):
    def everything(self, stream: str) -> list[RecordedEvent]:
        return super().everything(stream)[: self.pin(stream)]


@planted("SES-03", "SES-04", "SES-05")
class OwnAppendsUnseen(_WithSession):
    """Its sessions do not see what they have appended."""

    unit = _Blind


class _LatePin(PlainSession):
    def pin(self, stream: str) -> int:
        return self.pins[stream] if stream in self.own else self.store.head(stream)

    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.pins.setdefault(stream, self.store.head(stream))
        super().keep(stream, events)


@planted("SES-15", "SES-16")
class PinnedTooLate(_WithSession):
    """Its sessions pin a stream when they append to it, and not when they read it."""

    unit = _LatePin


class _Careful(PlainSession):
    def check_pins(self) -> None:
        for stream, pin in self.pins.items():
            if self.store.head(stream) != pin:
                raise self.store.conflict(stream, pin, self.store.head(stream))


@planted("SES-17")
class ReadsArePinned(_WithSession):
    """Its sessions conflict on streams that they only read."""

    unit = _Careful


class _Reckless(PlainSession):
    def check_pins(self) -> None:
        """Check nothing."""


@planted("SES-14", "SES-20", "SES-21")
class MovedIsOverlooked(_WithSession):
    """Its sessions do not notice that a stream has moved."""

    unit = _Reckless


class _Eternal(PlainSession):
    async def turn(self) -> None:
        await self.store.turn()


@planted("SES-18")
class UsableAfterTheEnd(_WithSession):
    """Its sessions take appends after their end, and lose them."""

    unit = _Eternal


class _Sorted(PlainSession):
    async def commit(self) -> None:
        self.writes.sort(key=lambda write: write[0])
        await super().commit()


@planted("SES-26")
class OrderedByStream(_WithSession):
    """Its sessions commit stream by stream, and not in the order of the appends."""

    unit = _Sorted


@planted("SES-09", "SES-25")
class CommittedAllTheSame(PlainStore):
    """It commits a session whose block raised."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        session = self.new_session()
        try:
            yield session
        finally:
            session.ended = True
            await session.commit()


@planted("SES-12", "SES-22", "SES-09")
class ExceptionSwallowed(PlainStore):
    """It ends a session whose block raised as if nothing had been."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        session = self.new_session()
        try:
            yield session
        except Exception:
            session.ended = True
            return
        session.ended = True
        await session.commit()


class _Lying(PlainSession):
    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        result = await super().append(stream, events, **asked)
        position = self.store.last_position() + 3
        return AppendResult(result.version, position, result.created, result.deduplicated)


@planted("SES-06")
class PositionForeseen(_WithSession):
    """Its sessions tell a position before they have one."""

    unit = _Lying


# Hooks.


@planted("HOK-04")
class HooksFailAppends(PlainStore):
    """It lets an append fail if a hook raises."""

    async def told(self, recorded: Sequence[RecordedEvent]) -> None:
        for hook in self.hooks:
            await hook(recorded)


@planted("HOK-02", "HOK-07")
class HooksBefore(PlainStore):
    """It calls the hooks before the commit."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        taken = self.take_in(events)
        hooks, self.hooks = self.hooks, []
        try:
            for hook in hooks:
                await hook([self.hand_out(event) for event in self._foreseen(stream, taken)])
            return await super().append(stream, taken, **asked)
        finally:
            self.hooks = hooks

    def _foreseen(self, stream: str, events: Sequence[NewEvent]) -> list[RecordedEvent]:
        copy = PlainStore(Database())
        return copy.write([(stream, events)])


@planted("HOK-01", "HOK-05")
class HookForEachEvent(PlainStore):
    """It calls a hook once for each event."""

    async def told(self, recorded: Sequence[RecordedEvent]) -> None:
        for event in recorded:
            await super().told([event])


@planted("HOK-03")
class HooksTurnedRound(PlainStore):
    """It calls the hooks in the wrong order."""

    def after_commit(self, hook: Hook) -> Hook:
        self.hooks.insert(0, hook)
        return hook


@planted("HOK-07")
class RetriesAreTold(PlainStore):
    """It calls the hooks for a retry, too."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        result = super().earlier(stream, expected, events)
        self.retried = self.database.streams[stream][:1] if result else []
        return result

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        if result.deduplicated:
            await self.told(self.retried)
        return result


# Data.


class _Changing(PlainStore):
    """A store that changes data on its way out."""

    def change(self, value: Any) -> Any:
        return value

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        return _with(event, data=self._walk(event.data), metadata=self._walk(event.metadata))

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        return self.change(value)


@planted("DAT-04", "DAT-05")
class WholeFloatsBecomeIntegers(_Changing):
    """It gives 1 for 1.0."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value


@planted("DAT-04")
class NegativeZeroLost(_Changing):
    """It gives 0.0 for -0.0."""

    def change(self, value: Any) -> Any:
        return 0.0 if isinstance(value, float) and value == 0 else value


@planted("DAT-02")
class IntegersAsDoubles(_Changing):
    """It keeps integers as doubles, as JavaScript does."""

    def change(self, value: Any) -> Any:
        return int(float(value)) if type(value) is int else value


@planted("DAT-05")
class BoolsAsNumbers(_Changing):
    """It gives 1 for True."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, bool) else value


@planted("DAT-08")
class NumbersInTextRevived(_Changing):
    """It turns text that looks like a number into one."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


@planted("DAT-07")
class NullsStripped(_Changing):
    """It loses U+0000 in text."""

    def change(self, value: Any) -> Any:
        return value.replace("\0", "") if isinstance(value, str) else value


@planted("DAT-06")
class TextNormalized(_Changing):
    """It normalizes text."""

    def change(self, value: Any) -> Any:
        return normalize("NFC", value) if isinstance(value, str) else value


@planted("DAT-14", "GLO-23")
class BytesAsText(_Changing):
    """It gives text for bytes that are UTF-8."""

    def change(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        return value


@planted("DAT-10")
class KeysSorted(PlainStore):
    """It sorts the keys of objects, as a binary JSON column does."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        if isinstance(event.data, dict):
            return _with(event, data=dict(sorted(event.data.items())))
        return event


@planted("DAT-11")
class OddKeysLost(PlainStore):
    """It loses keys that start with a dollar."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        if isinstance(event.data, dict):
            kept = {key: item for key, item in event.data.items() if not key.startswith("$")}
            return _with(event, data=kept)
        return event


@planted("DAT-15", "GLO-23")
class MetadataLost(PlainStore):
    """It does not keep metadata."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return _with(super().hand_out(event), metadata={})


@planted("DAT-16")
class MetadataOverrides(PlainStore):
    """It mixes metadata with its own fields."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        return _with(event, position=event.metadata.get("position", event.position))


@planted("DAT-20", "SES-19")
class Aliased(PlainStore):
    """It keeps the caller's objects."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        listed = list(events) if isinstance(events, Iterator) else events
        encode_events(listed)
        return list(listed)


@planted("DAT-21")
class HandsOutItsOwn(PlainStore):
    """It gives its own objects to readers."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return event


@planted("DAT-17")
class IdsMadeAnew(PlainStore):
    """It gives events ids of its own."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return _with(super().hand_out(event), id=UUID(int=event.position))


@planted("DAT-18")
class NaiveTimes(PlainStore):
    """Its times do not know their zone."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return _with(super().hand_out(event), recorded_at=event.recorded_at.replace(tzinfo=None))


@planted("DAT-19")
class Milliseconds(PlainStore):
    """It cuts its times to milliseconds."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        time: datetime = event.recorded_at
        cut = time.replace(microsecond=time.microsecond // 1000 * 1000)
        return _with(super().hand_out(event), recorded_at=cut)


class _Lenient(PlainStore):
    """A store that takes in what JSON libraries take in."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if not isinstance(events, list) or any(type(event) is not NewEvent for event in events):
            return super().take_in(events)
        taken = [NewEvent(e.type, self.mend(e.data), self.mend(e.metadata), e.id) for e in events]
        return super().take_in(taken)

    def mend(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.mend(item) for key, item in value.items()}
        return [self.mend(item) for item in value] if isinstance(value, list) else value


@planted("DAT-27")
class TuplesBecomeLists(_Lenient):
    """It takes tuples, and gives lists."""

    def mend(self, value: Any) -> Any:
        return super().mend(list(value) if isinstance(value, tuple) else value)


@planted("DAT-23", "APP-09", "ARG-11")
class NanBecomesNull(_Lenient):
    """It takes NaN, and gives None."""

    def mend(self, value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else super().mend(value)


@planted("DAT-25")
class KeysBecomeText(_Lenient):
    """It takes keys that are no text, and gives text."""

    def mend(self, value: Any) -> Any:
        if isinstance(value, dict):
            value = {str(key): item for key, item in value.items()}
        return super().mend(value)


@planted("DAT-22")
class LargeIntegersWrap(_Lenient):
    """It takes integers of any size, and gives what is left of them."""

    def mend(self, value: Any) -> Any:
        return value % 2**63 if type(value) is int and value >= 2**63 else super().mend(value)


@planted("DAT-24")
class SurrogatesReplaced(_Lenient):
    """It takes lone surrogates, and gives question marks."""

    def mend(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return super().mend(value)


@planted("DAT-32")
class IdsFromText(PlainStore):
    """It takes the text of a UUID for an id."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, list) and all(isinstance(event, NewEvent) for event in events):
            events = [NewEvent(e.type, e.data, e.metadata, _uuid(e.id)) for e in events]
        return super().take_in(events)


# Names and arguments.


@planted("NAM-06", "NAM-12")
class LongNamesCut(PlainStore):
    """It cuts names that are too long."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        return await super().append(_cut(stream), events, **asked)

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        return await super().read(_cut(stream), **asked)


@planted("NAM-08")
class DollarAccepted(PlainStore):
    """It lets callers write to the streams of the toolkit."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        if stream[:1] == "$":
            stream = f"dollar-{stream[1:]}"
        return await super().append(stream, events, **asked)


@planted("ARG-01")
class BareEventAccepted(PlainStore):
    """It takes a bare event for a list of one."""

    def take_in(self, events: Any) -> list[NewEvent]:
        return super().take_in([events] if isinstance(events, NewEvent) else events)


@planted("ARG-03", "ARG-04")
class UnknownIsAny(PlainStore):
    """It takes an expectation that it does not know for none."""

    async def append(self, stream: str, events: Any, *, expected: Any = ANY) -> AppendResult:
        if not isinstance(expected, int) and expected not in ("no_stream", "stream_exists"):
            expected = ANY
        return await super().append(stream, events, expected=expected)


@planted("ARG-04")
class TrueIsOne(PlainStore):
    """It takes True for version 1."""

    async def append(self, stream: str, events: Any, *, expected: Any = ANY) -> AppendResult:
        if isinstance(expected, bool):
            expected = int(expected)
        return await super().append(stream, events, expected=expected)


@planted("ARG-05", "ARG-07")
class NegativeIsClamped(PlainStore):
    """It takes bounds and counts below the smallest for the smallest."""

    async def read(
        self, stream: str, *, from_version: Any = 1, max_count: Any = None, **asked: Any
    ) -> ReadResult:
        if isinstance(from_version, int):
            from_version = max(from_version, 1)
        if isinstance(max_count, int):
            max_count = max(max_count, 0)
        return await super().read(stream, from_version=from_version, max_count=max_count, **asked)


# Cancellation and closing.


@planted("CAN-01", "CAN-02", "CAN-11")
class OpenTransaction(PlainStore):
    """It leaves a transaction open if an append is cancelled in it."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        if getattr(self, "in_transaction", False):
            message = "cannot start a transaction within a transaction"
            raise StoreUnavailableError(message)
        self.in_transaction = True
        if len(events) != 1 or events[0].type != "After":
            await self.turn()
        try:
            return await super().append_now(stream, events, expected)
        finally:
            self.in_transaction = False


@planted("CAN-10")
class CancellationSwallowed(PlainStore):
    """It takes the cancellation of an append for an error of the driver, and tries again."""

    async def turn(self) -> None:
        try:
            await super().turn()
        except get_cancelled_exc_class():
            pass


@planted("CAN-01", "CAN-06")
class NeverLetsOthersRun(PlainStore):
    """It does all its work without ever giving others a turn."""

    async def turn(self) -> None:
        self.check_open()


@planted("CLO-01", "CLO-02", "CLO-07")
class OpenAfterClosing(PlainStore):
    """It goes on working after it was closed."""

    def check_open(self) -> None:
        """Check nothing."""


@planted("CAN-17", "CAN-18")
class SpoiltByImpatience(PlainStore):
    """It keeps a connection whose call was cancelled; when all are spoilt, nothing works."""

    spoilt = 0

    async def turn(self) -> None:
        if self.spoilt > 20:
            message = "the connection is busy"
            raise StoreUnavailableError(message)
        try:
            await super().turn()
        except get_cancelled_exc_class():
            self.spoilt += 1
            raise


@planted("CAN-19")
class WrittenAfterCancellation(PlainStore):
    """It leaves an append that was cancelled in its queue."""

    late: tuple[str, list[NewEvent]] | None = None

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, expected: Expectation = ANY
    ) -> AppendResult:
        taken = list(events)
        try:
            return await super().append(stream, taken, expected=expected)
        except get_cancelled_exc_class():
            self.late = (stream, taken)
            raise

    def write(self, writes: Writes) -> list[RecordedEvent]:
        late, self.late = self.late, None
        recorded = super().write(writes)
        if late is not None and late[1][0].type == "Counted" and not writes[0][0].startswith("l"):
            super().write([late])
        return recorded


@planted("CLO-09", "CLO-10")
class ClosingDropsWhatWaits(PlainStore):
    """It refuses appends that were called before it was closed and still wait."""

    async def turn(self) -> None:
        await super().turn()
        self.check_open()


@planted("ELS-01")
class UsedAnywhere(PlainStore):
    """It does not notice that it is used in another event loop."""

    def check_place(self) -> None:
        """Check nothing."""


@planted("SUB-22")
class WaitsForTheHead(PlainStore):
    """It takes a position beyond the head for a place to wait at."""

    def check_reached(self, position: int) -> None:
        """Check nothing."""


@planted("SIZ-06")
class PageCutByBytes(PlainStore):
    """It ends a page when it is large, and says that it was looked through to its end."""

    async def read_all(self, **asked: Any) -> AllResult:
        result = await super().read_all(**asked)
        size, kept = 0, list[RecordedEvent]()
        for event in result.events:
            size += len(str(event.data))
            if size < 2_000_000:
                kept.append(event)
        return AllResult(kept, result.position)


class _ForgetfulSession(PlainSession):
    def everything(self, stream: str) -> list[RecordedEvent]:
        events = super().everything(stream)
        if sum(len(str(event.data)) for event in events) < 4_000_000:
            return events
        return events[:15] + events[-2:]


@planted("SIZ-07")
class SessionSkipsVersions(PlainStore):
    """Its session takes the first page of what is stored for all of it."""

    def new_session(self) -> PlainSession:
        return _ForgetfulSession(self)


@planted("CLO-03")
class ClosedOnce(PlainStore):
    """It cannot be closed twice."""

    async def aclose(self) -> None:
        self.check_open()
        await super().aclose()


@planted("CLO-04")
class BlockLeavesOpen(PlainStore):
    """It stays open when its block is left."""

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""


@planted("CLO-06")
class ClosingEndsQuietly(PlainStore):
    """It ends subscriptions quietly when it is closed."""

    def new_subscription(
        self, after: int, types: frozenset[str] | None, prefix: str | None
    ) -> PlainSubscription:
        return _EndingQuietly(self, after, types, prefix)


class _EndingQuietly(PlainSubscription):
    async def wait(self, seen: int) -> None:
        await super().wait(seen)
        self.left = self.left or self.store.closed


# Several stores on the same events.


@planted("SHA-02", "SHA-04", "SHA-05")
class HeadCached(PlainStore):
    """It remembers heads, and does not notice what other stores append."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.heads: dict[str, int] = {}

    def head(self, stream: str) -> int:
        return self.heads.setdefault(stream, super().head(stream))

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream, event)
        self.heads[stream] = recorded.version
        return recorded


class _CountingStore(_Subscribing):
    written = 0

    def write(self, writes: Writes) -> list[RecordedEvent]:
        self.written += 1
        return super().write(writes)


class _OwnOnly(PlainSubscription):
    store: _CountingStore

    async def wait(self, seen: int) -> None:
        del seen
        signal = self.store.database.signal
        before = self.store.written
        while self.store.written == before and not self.left:
            await signal.wait(signal.count, None)


@planted("SHA-07")
class WokenByItselfOnly(_CountingStore):
    """It wakes its subscriptions for its own commits only, and never looks by itself."""

    subscription = _OwnOnly


class _Polling(PlainSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        await sleep(3600)


@planted("SHA-11")
class PushPretended(_Subscribing):
    """It claims push, and polls instead, as seldom as it may."""

    subscription = _Polling


@planted("SHA-09")
class ClosingTakesAll(PlainStore):
    """It takes the events with it when it is closed."""

    async def aclose(self) -> None:
        self.database.streams.clear()
        await super().aclose()


@planted("DUR-01", "DUR-02", "DUR-04")
class LostOnClosing(PlainStore):
    """It loses the last commit if it is closed soon after it."""

    async def aclose(self) -> None:
        if self.database.log and not self.closed:
            lost = self.database.log.pop()
            self.database.streams[lost.stream].pop()
        await super().aclose()


# What stores that can do less have to refuse.


@planted("SES-31")
class SecondStreamWritten(HumbleStore):
    """It cannot commit two streams as one, and does it one by one instead of refusing."""

    def new_session(self) -> PlainSession:
        return _Permissive(self)


class _Permissive(_OneByOne):
    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.own.setdefault(stream, []).extend(events)
        self.writes.append((stream, events))


@planted("SES-32")
class ReadingRefused(HumbleStore):
    """It refuses to read another stream in a session than it writes."""

    def new_session(self) -> PlainSession:
        return _OneStream(self)


class _OneStream(PlainSession):
    def pin(self, stream: str) -> int:
        if self.pins and stream not in self.pins:
            message = "a session of this store is about one stream"
            raise StoreUnavailableError(message)
        return super().pin(stream)


@planted("GLO-24")
class OrderPretended(HumbleStore):
    """It has no order of all events, and gives none instead of refusing."""

    async def read_all(self, **_: Any) -> Any:
        return AllResult([], 0)


@planted("HOK-11")
class HooksForgotten(HumbleStore):
    """It takes hooks, and never calls them."""

    def after_commit(self, hook: Hook) -> Hook:
        return hook


@planted("CAP-01", "CAP-02", "CAP-03", "CAP-04")
class BoastingStore(HumbleStore):
    """It claims what it cannot do."""

    capabilities = frozenset(Capability)


@planted("CAP-01")
class ModestStore(PlainStore):
    """It does not claim what it can do."""

    capabilities = frozenset(Capability) - {Capability.SESSIONS}
