"""The timeouts of a reactor, in one stream of the store, and the state that follows from it.

Every record names the oldest version that still counts. So a program that starts reads the last
record, and then all from that version on, however long the stream is.
"""

from __future__ import annotations

import heapq

from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime  # msgspec resolves field types at run time
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid5

from anyio import Lock
from msgspec import Struct, to_builtins

from eventport._concurrency.signal import Signal
from eventport.conflicts import ATTEMPTS, retry_conflicts
from eventport.context import CAUSATION_ID, current_context, reacting_to
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import EventStore
from eventport.reactors.once import Once
from eventport.toolkit_streams import not_a_record, read_record, toolkit_stream


SCHEDULED: Final = "eventport.TimeoutScheduled"
"""A timeout is to be reached at some time."""

CANCELLED: Final = "eventport.TimeoutCancelled"
"""A timeout is not to be handled any more."""

REACHED: Final = "eventport.TimeoutReached"
"""The time of a timeout has come."""

Key: TypeAlias = tuple[str, str]
"""A timeout's name, and what it is for."""


class Timeout(Struct, frozen=True):
    """A timeout whose time has come."""

    name: str
    """What it is called, such as ``"unpaid"``."""
    key: str
    """What it is for, such as the name of an order's stream."""
    due: datetime
    """When it was to be reached."""
    data: Any
    """What was scheduled with it."""
    event: RecordedEvent
    """The event that says that it was reached."""


class _Record(Struct, frozen=True):
    name: str
    key: str
    oldest: int

    @property
    def timeout(self) -> Key:
        return self.name, self.key


class _Scheduled(_Record, frozen=True):
    due: datetime
    data: Any = None


class _Pending(Struct, frozen=True):
    record: _Scheduled
    event: RecordedEvent


class _Fired:
    """A timeout that was reached and may not be handled yet."""

    def __init__(self, event: RecordedEvent) -> None:
        self.event = event
        self.is_superseded = False


class Timeouts:
    """What a reactor has scheduled.

    Args:
        store: Where the stream is.
        reactor: Whose timeouts.
        once: Appends what handlers schedule and cancel.
    """

    def __init__(self, store: EventStore, reactor: str, once: Once) -> None:
        self.stream: Final = toolkit_stream("timeouts", reactor)
        """The stream's name."""
        self.changed: Final = Signal()
        """Is notified whenever something was scheduled or cancelled here."""
        self._store = store
        self._once = once
        self._reading = Lock()
        self.forget()

    def forget(self) -> None:
        """Forget the state, so that it is read anew."""
        self._version: int | None = None
        # Both are in the order of versions, since what is scheduled anew moves to the end.
        self._pending: dict[Key, _Pending] = {}
        self._fired: dict[UUID, _Fired] = {}
        self._last_fired: dict[Key, _Fired] = {}
        self._by_due: list[tuple[datetime, int, Key]] = []

    async def schedule(
        self, cause: RecordedEvent, id_: UUID, key: Key, due: datetime, data: Any
    ) -> None:
        """Schedule a timeout, in place of one with the same name and key."""

        def record() -> Struct:
            return _Scheduled(*key, self._oldest(), due, data)

        await self._change(cause, id_, SCHEDULED, record)

    async def cancel(self, cause: RecordedEvent, id_: UUID, key: Key) -> None:
        """Cancel a timeout if it is scheduled, or was reached and is not handled yet."""

        def record() -> Struct | None:
            fired = self._last_fired.get(key)
            if key not in self._pending and (fired is None or fired.is_superseded):
                return None
            return _Record(*key, self._oldest())

        await self._change(cause, id_, CANCELLED, record)

    async def reached(self, event: RecordedEvent) -> Timeout | None:
        """Return the timeout that an event is about; None if it was cancelled, or scheduled anew.

        What the event's own handler has scheduled or cancelled in an earlier try does not count.
        """
        record = read_record(event, REACHED, _Scheduled)
        await self.refresh()
        fired = self._fired.get(event.id)
        superseded = (
            await self._is_superseded(event, record.timeout)
            if fired is None
            else fired.is_superseded
        )
        self._prune(event.position)
        if superseded:
            return None
        return Timeout(record.name, record.key, record.due, record.data, event)

    async def fire(self, now: datetime) -> datetime | None:
        """Append that timeouts were reached, for all that are due; return when the next one is."""
        while self._by_due:
            due, version, key = self._by_due[0]
            pending = self._pending.get(key)
            if pending is None or pending.event.version != version:
                heapq.heappop(self._by_due)
            elif due > now:
                return due
            else:
                await self._fire(key, pending)
        return None

    async def refresh(self) -> None:
        """Read what is new in the stream; at first, all that still counts."""
        async with self._reading:
            if self._version is None:
                last = await self._store.read(self.stream, backwards=True, max_count=1)
                oldest = _record_of(last.events[0]).oldest if last.events else 1
                self._version = oldest - 1
            newer = self._store.iterate(self.stream, from_version=self._version + 1)
            async with aclosing(newer) as events:
                async for event in events:
                    self._apply(event)
                    self._version = event.version

    async def _change(
        self, cause: RecordedEvent, id_: UUID, type_: str, record: Callable[[], Struct | None]
    ) -> None:
        async def make() -> Sequence[NewEvent]:
            await self.refresh()
            self._prune(cause.position)
            made = record()
            return [] if made is None else [_event(type_, made, id_)]

        if await self._once.append(self.stream, id_, make, after=cause.position):
            await self.refresh()
            self.changed.notify()

    async def _fire(self, key: Key, pending: _Pending) -> None:
        scheduled = pending.event

        async def attempt() -> None:
            await self.refresh()
            if self._pending.get(key) is not pending:
                return  # it was cancelled, scheduled anew, or reached in another process
            record = _Scheduled(*key, self._oldest(), pending.record.due, pending.record.data)
            with reacting_to(scheduled):
                event = _event(REACHED, record, uuid5(scheduled.id, REACHED))
            await self._store.append(self.stream, [event], expected=self._version or 0)

        await retry_conflicts(self._store, attempt, attempts=ATTEMPTS)
        await self.refresh()

    def _apply(self, event: RecordedEvent) -> None:
        if event.type == SCHEDULED:
            record = read_record(event, SCHEDULED, _Scheduled)
            key = record.timeout
            self._supersede(key, event)
            self._pending.pop(key, None)
            self._pending[key] = _Pending(record, event)
            heapq.heappush(self._by_due, (record.due, event.version, key))
        elif event.type == REACHED:
            record = read_record(event, REACHED, _Scheduled)
            key = record.timeout
            self._pending.pop(key, None)
            self._fired[event.id] = self._last_fired[key] = _Fired(event)
        else:
            key = read_record(event, CANCELLED, _Record).timeout
            self._supersede(key, event)
            self._pending.pop(key, None)

    def _supersede(self, key: Key, event: RecordedEvent) -> None:
        fired = self._last_fired.get(key)
        if fired is not None and _is_of_another(event, fired.event):
            fired.is_superseded = True

    async def _is_superseded(self, reached: RecordedEvent, key: Key) -> bool:
        """Look in the stream, for a timeout that the state does not know any more."""
        later = self._store.iterate(self.stream, from_version=reached.version + 1)
        async with aclosing(later) as events:
            async for event in events:
                if (
                    event.type != REACHED
                    and _record_of(event).timeout == key
                    and _is_of_another(event, reached)
                ):
                    return True
        return False

    def _prune(self, position: int) -> None:
        """Forget what was reached before an event: events are handled in the order of the store."""
        while self._fired:
            id_, fired = next(iter(self._fired.items()))
            if fired.event.position >= position:
                return
            del self._fired[id_]
            key = _record_of(fired.event).timeout
            if self._last_fired.get(key) is fired:
                del self._last_fired[key]

    def _oldest(self) -> int:
        """Return the oldest version that counts, as of the next event."""
        pending = next(iter(self._pending.values()), None)
        fired = next(iter(self._fired.values()), None)
        counting = [one.event.version for one in (pending, fired) if one is not None]
        return min([(self._version or 0) + 1, *counting])


def _event(type_: str, record: Struct, id_: UUID) -> NewEvent:
    return NewEvent(type_, to_builtins(record), current_context().metadata, id_)


def _is_of_another(change: RecordedEvent, reached: RecordedEvent) -> bool:
    """Return whether something else than the handler of a timeout has made a change."""
    return change.metadata.get(CAUSATION_ID) != str(reached.id)


def _record_of(event: RecordedEvent) -> _Record:
    if event.type not in {SCHEDULED, CANCELLED, REACHED}:
        raise not_a_record(event, SCHEDULED, f"its type is {event.type!r}")
    return read_record(event, event.type, _Record)
