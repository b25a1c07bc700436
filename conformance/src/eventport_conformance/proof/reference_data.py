"""What the reference store does to the data: a base that its sessions and subscriptions share."""

from __future__ import annotations

import logging

from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

from anyio import CancelScope, Event, move_on_after
from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from eventport import (
    AppendResult,
    BoundaryError,
    Capability,
    ConcurrencyError,
    CopiedEvent,
    Expectation,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidStreamNameError,
    Match,
    NewEvent,
    NotSupportedError,
    PayloadTooLargeError,
    Query,
    QueryResult,
    RecordedEvent,
    StoreClosedError,
    StreamInfo,
)
from eventport.adapter import Affinity, encode_events
from eventport.catalogue import category_of
from eventport.expectations import exact_version, holds


S = TypeVar("S")

Hook: TypeAlias = Callable[[Sequence[RecordedEvent]], Awaitable[None]]
Writes: TypeAlias = Sequence[tuple[str, Sequence[NewEvent]]]

STEP: Final = 3
"""From one position to the next, so that a clause that takes them for contiguous is found out."""

LARGEST: Final = 2_000_000
"""How many bytes an event may hold at most; many backends have such a limit."""

_log: Final = logging.getLogger("eventport")


@dataclass(frozen=True)
class Filter:
    """Which events of the whole store are wanted."""

    types: frozenset[str] | None = None
    prefix: str | None = None
    query: Query | None = None
    stream: str | None = None


class Signal:
    """Counts commits, and wakes those that wait for the next one.

    Take `count`, read, and if there is nothing new, `wait` with that count: a commit in between
    ends the wait at once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._next = Event()

    def notify(self) -> None:
        """Wake all that wait."""
        self.count += 1
        self._next.set()
        self._next = Event()

    async def wait(self, count: int, seconds: float | None) -> None:
        """Wait until something has happened since `count` was taken, but no longer than that."""
        if self.count == count:
            with move_on_after(seconds):
                await self._next.wait()


class Database:
    """The events, which outlive the stores on them."""

    def __init__(self) -> None:
        self.log: list[RecordedEvent] = []
        self.streams: dict[str, list[RecordedEvent]] = {}
        self.signal = Signal()
        self.deleted: set[str] = set()
        self.truncated: dict[str, int] = {}
        self.clock_offset = timedelta()

    def delete(self, stream: str) -> None:
        """Delete a stream, so that it can be made anew; its versions go on."""
        self.deleted.add(stream)
        self.truncated[stream] = len(self.streams.get(stream, ())) + 1

    def is_visible(self, event: RecordedEvent) -> bool:
        """Return whether reads of its stream return an event."""
        return event.version >= self.truncated.get(event.stream, 1)


class ReferenceData:
    """What the reference store does to the data, each thing in a method of its own."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    is_odd = False
    """Whether it has unusual settings, which change nothing in a right store."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.hooks: list[Hook] = []
        self.closed = False
        self.affinity = Affinity()

    def head(self, stream: str) -> int:
        """Return a stream's version."""
        if stream in self.database.deleted:
            return 0
        return len(self.database.streams.get(stream, ()))

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        """Check events, and return copies that no one else holds."""
        events = list(events) if _is_iterator(events) else events
        for event in encode_events(events):
            if len(event.data) > LARGEST:
                message = f"an event of type {event.type!r} is larger than {LARGEST:,} bytes"
                raise PayloadTooLargeError(message)
        self.check_copies(events)
        return [
            replace(
                event,
                type=str(event.type),
                data=deepcopy(event.data),
                metadata=deepcopy(event.metadata),
                tags=frozenset(event.tags),
            )
            for event in events
        ]

    def check_copies(self, events: Iterable[NewEvent]) -> None:
        """Refuse copies if their times cannot be kept."""
        copied = any(isinstance(event, CopiedEvent) for event in events)
        if copied and Capability.TIMES not in self.capabilities:
            raise NotSupportedError("this store stamps all events itself: append a NewEvent")

    def check_owner(self, stream: str, events: Sequence[NewEvent]) -> None:
        """Refuse a program's own events in a stream of the toolkit."""
        if stream[:10] == "eventport/" and any(one.type[:10] != "eventport." for one in events):
            message = f"{stream!r} belongs to the toolkit"
            raise InvalidStreamNameError(message)

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        """Return a copy of an event that its reader may change."""
        return RecordedEvent(
            event.stream,
            event.version,
            event.position,
            event.type,
            deepcopy(event.data),
            deepcopy(event.metadata),
            event.id,
            event.recorded_at,
            event.tags,
        )

    def time(self, stream: str, event: NewEvent) -> datetime:
        """Return the time at which an event was first recorded."""
        if isinstance(event, CopiedEvent):
            return event.recorded_at.astimezone(UTC)
        return self.time_after(self.database.streams.get(stream, []))

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        """Put one event into the database."""
        stored = self.database.streams.setdefault(stream, [])
        before = len(stored) if stream in self.database.deleted else self.head(stream)
        self.database.deleted.discard(stream)
        recorded = RecordedEvent(
            stream,
            before + 1,
            STEP * (len(self.database.log) + 1),
            event.type,
            event.data,
            event.metadata,
            event.id,
            self.time(stream, event),
            frozenset(event.tags),
        )
        self.database.log.append(recorded)
        stored.append(recorded)
        return recorded

    def time_after(self, stored: Sequence[RecordedEvent]) -> datetime:
        """Return the time of an event that comes after others in its stream."""
        now = datetime.now(UTC) + self.database.clock_offset
        return max(now, stored[-1].recorded_at) if stored else now

    def write(self, writes: Writes) -> list[RecordedEvent]:
        """Put the events of one commit into the database, all at once."""
        recorded = [self.record(stream, event) for stream, events in writes for event in events]
        self.database.signal.notify()
        return recorded

    def holds(self, expected: Expectation, head: int) -> bool:
        """Return whether an expectation holds."""
        return holds(expected, head)

    def conflict(self, stream: str, expected: Expectation, head: int) -> ConcurrencyError:
        """Make the error for an expectation that does not hold."""
        return ConcurrencyError(stream, expected, head)

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        """Find out whether exactly these events are stored there already."""
        before = exact_version(expected)
        if before is None or not events:
            return None
        last = before + len(events)
        stored = self.database.streams.get(stream, [])[before:last]
        if [event.id for event in stored if self.can_be_retried(event)] != [e.id for e in events]:
            return None
        return AppendResult(last, stored[-1].position, created=before == 0, deduplicated=True)

    def can_be_retried(self, event: RecordedEvent) -> bool:
        """Return whether an append may be a retry of the one that wrote an event."""
        return self.database.is_visible(event)

    def select(
        self, stream: str, first: int, last: int | None, most: int | None, *, backwards: bool
    ) -> list[RecordedEvent]:
        """Find the events of a range."""
        found = self.database.streams.get(stream, [])[first - 1 : last]
        found = [event for event in found if self.database.is_visible(event)]
        return [self.hand_out(event) for event in (found[::-1] if backwards else found)[:most]]

    def known_streams(self) -> list[str]:
        """Return the names of all streams, in order."""
        visible = {event.stream for event in self.database.log if self.is_there(event)}
        return sorted(visible)

    def is_there(self, event: RecordedEvent) -> bool:
        """Return whether an event shows that its stream is there."""
        return event.stream not in self.database.deleted and self.database.is_visible(event)

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        """Return whether a stream belongs on a list."""
        is_own = name.startswith("eventport/") and not prefix.startswith("eventport/")
        return name.startswith(prefix) and not is_own and self.is_of(name, category)

    def is_of(self, name: str, category: str | None) -> bool:
        """Return whether a stream is of a category."""
        return category is None or category_of(name) == category

    def describe(self, stream: str) -> StreamInfo:
        """Return what a list says of a stream."""
        last = self.database.streams[stream][-1]
        return StreamInfo(stream, last.version, last.position, last.recorded_at)

    def matches(self, event: RecordedEvent, wanted: Filter) -> bool:
        """Return whether an event is wanted."""
        return (
            (wanted.types is None or event.type in wanted.types)
            and event.stream.startswith(wanted.prefix or "")
            and (wanted.query is None or self.covers(wanted.query, event))
            and (wanted.stream is None or event.stream == wanted.stream)
        )

    def covers(self, query: Query, event: RecordedEvent) -> bool:
        """Return whether an event matches a query."""
        if query.matches is None:
            return True
        return any(self.meets(match, event) for match in query.matches)

    def meets(self, match: Match, event: RecordedEvent) -> bool:
        """Return whether an event has one of the types, and all of the tags."""
        return (not match.types or event.type in match.types) and match.tags <= event.tags

    def seen_since(self, token: str | None) -> int:
        """Return the position that a token stands for."""
        if token is None:
            return 0
        if not isinstance(token, str):
            message = f"since must be a token, not {token!r}"
            raise InvalidArgumentTypeError(message)
        kind, _, position = token.partition("-")
        if kind != "seen" or not position.isdecimal():
            message = f"since must be the token of a query, not {token!r}"
            raise InvalidArgumentError(message)
        return int(position)

    def find(self, query: Query, after: int, most: int | None, *, backwards: bool) -> QueryResult:
        """Find what matches a query, now."""
        found = [event for event in self.after(after) if self.covers(query, event)]
        given = (found[::-1] if backwards else found)[:most]
        position = max(after, self.last_position())
        if not backwards and most is not None and len(given) == most:
            position = given[-1].position if given else after
        return QueryResult([self.hand_out(event) for event in given], position, f"seen-{position}")

    def check_condition(self, unless: Query, since: str | None) -> None:
        """Raise the conflict of a condition that does not hold now."""
        for event in self.after(self.seen_since(since)):
            if self.covers(unless, event):
                raise BoundaryError(unless, event)

    def after(self, position: int) -> list[RecordedEvent]:
        """Return the events after a position."""
        return self.database.log[position // STEP :]

    def last_position(self) -> int:
        """Return the position of the newest event."""
        return self.database.log[-1].position if self.database.log else 0

    def check_open(self) -> None:
        """Refuse everything after closing."""
        if self.closed:
            message = "the store has been closed"
            raise StoreClosedError(message)
        self.check_place()

    def check_place(self) -> None:
        """Refuse everything in another event loop."""
        self.affinity.check(self)

    async def turn(self) -> None:
        """Let others have a turn; what has begun before the store is closed comes to its end."""
        self.check_open()
        await checkpoint()

    async def call_hooks(self, recorded: Sequence[RecordedEvent]) -> None:
        """Call the hooks after a commit."""
        visible = [event for event in recorded if self.database.is_visible(event)]
        with CancelScope(shield=True):
            for hook in self.hooks if visible else ():
                try:
                    await hook([self.hand_out(event) for event in visible])
                except Exception:  # noqa: BLE001  # whatever it is, the commit stands
                    _log.exception("after-commit hook %r failed; the commit stands", hook)


def _is_iterator(events: Any) -> bool:
    return hasattr(events, "__next__")
