"""Mutants whose subscriptions lose, repeat or hang."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from dataclasses import replace
from typing import Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint

from eventport import ConcurrencyError, Expectation, NewEvent, RecordedEvent

from eventport_conformance.proof.mutants.base import (
    Subscribing,
    changed,
    mutant,
)
from eventport_conformance.proof.reference_data import STEP, Database
from eventport_conformance.proof.reference_session import ReferenceSubscription
from eventport_conformance.proof.reference_store import ReferenceStore


class _Deaf(ReferenceSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        await checkpoint()
        await checkpoint()
        await self.store.database.signal.wait(self.store.database.signal.count, None)


@mutant("SUB-21")
class LostWakeUp(Subscribing):
    """It loses what is written between a look and the wait that follows."""

    subscription = _Deaf


class _KeepingStore(Subscribing):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.handed_out: dict[int, RecordedEvent] = {}


class _Sharing(ReferenceSubscription):
    store: _KeepingStore

    def find(self) -> RecordedEvent | None:
        event = super().find()
        return event and self.store.handed_out.setdefault(event.position, event)


@mutant("SUB-29")
class SharesWhatItHandsOut(_KeepingStore):
    """It hands the same event out to all of its subscriptions."""

    subscription = _Sharing


class _MeetingStore(Subscribing):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.followers: list[ReferenceSubscription] = []


class _Meeting(ReferenceSubscription):
    store: _MeetingStore

    async def wait(self, seen: int) -> None:
        self.store.followers.append(self)
        await super().wait(seen)

    def find(self) -> RecordedEvent | None:
        event = super().find()
        if event is None:
            for follower in self.store.followers:
                follower.position = max(follower.position, self.position)
        return event


@mutant("SUB-30")
class MovesOthersOn(_MeetingStore):
    """What one subscription has passed over, others that have waited never get."""

    subscription = _Meeting


class _Impatient(ReferenceSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        self.left = True


@mutant("SUB-01", "SUB-20")
class EndsWhenIdle(Subscribing):
    """It ends a subscription that has nothing to yield."""

    subscription = _Impatient


class _Repeating(ReferenceSubscription):
    was_live = False

    async def wait(self, seen: int) -> None:
        await super().wait(seen)
        if not self.was_live:
            self.was_live = True
            self.position = max(self.position - 3, 0)


@mutant("SUB-03")
class RepeatedAtTheSeam(Subscribing):
    """It returns the last event of the past again as the first one of the present."""

    subscription = _Repeating


class _Boasting(ReferenceSubscription):
    async def begin(self) -> None:
        self.caught_up.set()
        await super().begin()


@mutant("SUB-07", "SUB-08")
class CaughtUpAtOnce(Subscribing):
    """It says that it has caught up when it begins."""

    subscription = _Boasting


class _Forgetful(ReferenceSubscription):
    async def __anext__(self) -> RecordedEvent:
        event = await super().__anext__()
        await checkpoint()
        return event


@mutant("CAN-16")
class CancelledWaitLoses(Subscribing):
    """It moves on before it can be sure that the reader gets the event."""

    subscription = _Forgetful


class _Dropping(ReferenceSubscription):
    def find(self) -> RecordedEvent | None:
        behind = len(self.store.after(self.position))
        if behind > 1000:
            self.position += 3 * (behind - 1000)
        return super().find()


@mutant("SUB-16")
class SlowReadersLose(Subscribing):
    """It drops the oldest events for a reader that lags by more than a thousand."""

    subscription = _Dropping


class _Careless(ReferenceSubscription):
    def is_wanted(self, event: RecordedEvent) -> bool:
        return self.caught_up.is_set() or super().is_wanted(event)


@mutant("SUB-05")
class LiveIsUnfiltered(Subscribing):
    """It filters the past only."""

    subscription = _Careless


class _Lagging(ReferenceSubscription):
    def find(self) -> RecordedEvent | None:
        before = self.position
        event = super().find()
        if event is None:
            self.position = before
        return event


@mutant("SUB-11")
class FilteredIsNotPassed(Subscribing):
    """Its position does not move past what the filter leaves out."""

    subscription = _Lagging


class _Stubborn(ReferenceSubscription):
    async def wait(self, seen: int) -> None:
        with CancelScope(shield=True):
            await self.store.database.signal.wait(seen, 2.5)
        await checkpoint()


@mutant("CAN-09")
class CannotBeCancelled(Subscribing):
    """It shields the wait for events from cancellation."""

    subscription = _Stubborn


class _Undying(ReferenceSubscription):
    def __setattr__(self, name: str, value: object) -> None:
        if (name, value) != ("left", True):
            super().__setattr__(name, value)


@mutant("SUB-13")
class LeavingDoesNotEnd(Subscribing):
    """It does not let go of a reader that waits when the block is left."""

    subscription = _Undying


class _Holding(ReferenceSubscription):
    def find(self) -> RecordedEvent | None:
        events = self.store.after(self.position)
        if events and events[0].position > self.position + STEP:
            return None  # somebody may still write what is missing
        return super().find()


@mutant("SUB-23")
class HoldsAtGaps(Subscribing):
    """It waits at a position that a refused append has used up."""

    subscription = _Holding

    def conflict(self, stream: str, expected: Expectation, head: int) -> ConcurrencyError:
        self.wasted += STEP
        return super().conflict(stream, expected, head)

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = changed(super().record(stream, event), position=self.used + self.wasted)
        self.database.log[-1] = recorded
        self.used += STEP
        return recorded

    def after(self, position: int) -> list[RecordedEvent]:
        return [event for event in self.database.log if event.position > position]

    wasted = 0
    used = STEP


@mutant("SUB-24")
class EndIsTheBeginning(ReferenceStore):
    """It begins at the first event when it is asked for the end."""

    def end(self) -> int:
        return 0


@mutant("SUB-24", "SUB-25")
class EndSkipsOne(ReferenceStore):
    """It misses the first event after the end."""

    def end(self) -> int:
        return self.last_position() + STEP

    def check_reached(self, position: int) -> None:
        super().check_reached(position - STEP)


class _ByPrefix(ReferenceSubscription):
    def is_wanted(self, event: RecordedEvent) -> bool:
        wanted = self.wanted
        prefix = wanted.stream or wanted.prefix
        return self.store.matches(event, replace(wanted, prefix=prefix, stream=None))


@mutant("SUB-26", "SUB-27")
class StreamIsAPrefix(Subscribing):
    """It follows each stream whose name starts with the one asked for."""

    subscription = _ByPrefix


class _AnyFilter(ReferenceSubscription):
    def is_wanted(self, event: RecordedEvent) -> bool:
        return super().is_wanted(event) or event.stream == self.wanted.stream


@mutant("SUB-27")
class OneFilterIsEnough(Subscribing):
    """It yields the events of the stream that match none of the other filters, too."""

    subscription = _AnyFilter


@mutant("SUB-28")
class AnyTextIsTheEnd(ReferenceStore):
    """It takes any text for the end."""

    def subscribe(self, *, after: Any = 0, **filters: Any) -> Any:
        return super().subscribe(after="end" if isinstance(after, str) else after, **filters)
