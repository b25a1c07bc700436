"""What the double keeps, and the rules of the real servers by which it does so; knows no gRPC."""

from __future__ import annotations

import json
import re
import time

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4


ANY: Final = -2
NO_STREAM: Final = -1
EXISTS: Final = -4
"""Expected revisions that are none, as protocol v2 writes them."""

LAST_REVISION: Final = 2**63 - 1
"""The revision of a tombstone, and what a soft deletion truncates before."""

_FIRST_POSITION: Final = 546


@dataclass(frozen=True)
class Proposed:
    """An event as a client sends it."""

    id: str
    type: str
    content_type: str
    data: bytes
    metadata: bytes


@dataclass(frozen=True)
class Record:
    """An event as it stands in the log."""

    position: int
    """A byte offset, and never one of a place within a record."""
    stream: str
    revision: int
    created: int
    """Ticks of 100 ns since 1970."""
    event: Proposed


@dataclass
class Stream:
    """What the index knows of a stream."""

    records: list[Record] = field(default_factory=list[Record])
    truncate_before: int = 0
    max_count: int | None = None
    max_age: float | None = None
    has_metadata: bool = False
    tombstoned: bool = False

    @property
    def head(self) -> int:
        """The revision of the last event ever written; -1 if there is none."""
        return len(self.records) - 1

    @property
    def soft_deleted(self) -> bool:
        """Whether it reads as missing although it had events."""
        return self.truncate_before == LAST_REVISION

    def visible(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return those of its first records that its metadata does not hide."""
        first = self.truncate_before
        if self.max_count is not None:
            first = max(first, len(records) - self.max_count)
        if self.max_age is None:
            return records[first:]
        oldest = time.time_ns() // 100 - self.max_age * 10_000_000
        return [record for record in records[first:] if record.created > oldest]


@dataclass(frozen=True)
class Appended:
    """A write that succeeded, now or, for a retry, before."""

    revision: int
    position: int


class WrongExpectedVersion(Exception):  # noqa: N818  # the server's name for it
    """An expectation did not hold."""

    def __init__(self, stream: str, expected: int, current: int) -> None:
        super().__init__(stream, expected, current)
        self.stream = stream
        self.expected = expected
        self.current = current


class StreamDeleted(Exception):  # noqa: N818  # the server's name for it
    """The stream has a tombstone, or is softly deleted and was expected to exist."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


class TooLarge(Exception):  # noqa: N818  # the server's name for it
    """The append is larger than the server's setting."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit


class BadRequest(Exception):  # noqa: N818  # the server's name for it
    """The server does not take such a request, whatever the stream's state."""


class InvalidPosition(Exception):  # noqa: N818  # the server's name for it
    """No record begins at a position of `$all`."""


class NotFound(Exception):  # noqa: N818  # the server's name for it
    """The stream has never been, or is softly deleted."""


class Database:
    """A log, an index, and the decisions that the server takes at each append.

    Args:
        max_append_size: The most bytes of data in one append; None for no limit.
        remembered_ids: Of how many events the ids are known to appends with `any`.
        answers_empty_on_tombstone: Whether an append of nothing to a tombstone succeeds.
    """

    def __init__(
        self,
        *,
        max_append_size: int | None = 1024 * 1024,
        remembered_ids: int = 100_000,
        answers_empty_on_tombstone: bool = False,
    ) -> None:
        self.log: list[Record] = []
        self.max_append_size = max_append_size
        self.horizon: int | None = None
        """Reads do not see records from this position on; they have not been indexed yet."""
        self._answers_empty_on_tombstone = answers_empty_on_tombstone
        self._streams: dict[str, Stream] = {}
        self._by_position: dict[int, int] = {}
        self.end = _FIRST_POSITION
        self._last_tick = 0
        self._remembered_ids = remembered_ids
        self._recent: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.on_commit: Callable[[], None] = lambda: None
        # A real log begins with records of the server itself, too.
        self.write([("$$$scavenges", [_json_event("$metadata", {})])])

    # Writing.

    def append(self, stream: str, expected: int, events: Sequence[Proposed]) -> Appended:
        """Append to one stream, as protocol v1 does."""
        _check_request(stream, events)
        size = sum(len(event.data) for event in events)
        if self.max_append_size is not None and size > self.max_append_size:
            raise TooLarge(size, self.max_append_size)
        found = self.stream(stream)
        if found.tombstoned:
            if not events and self._answers_empty_on_tombstone:
                return Appended(LAST_REVISION, -1)
            raise StreamDeleted(stream)
        if (earlier := self.earlier(stream, expected, events)) is not None:
            return earlier
        self.check(stream, expected)
        if not events:
            self._undelete(found)
            return Appended(found.head, -1)
        last = self.write([(stream, events)])
        return Appended(self.stream(stream).head, last)

    def check(self, stream: str, expected: int) -> None:
        """Raise unless an expectation holds right now."""
        found = self.stream(stream)
        if found.tombstoned or (expected == EXISTS and found.soft_deleted):
            raise StreamDeleted(stream)
        match expected:
            case -2:
                fits = True
            case -4:
                fits = found.head >= 0 or found.has_metadata
            case -1:
                fits = found.head < 0 or found.soft_deleted
            case _:
                fits = expected == found.head
        if not fits:
            raise WrongExpectedVersion(stream, expected, found.head)

    def write(self, writes: Sequence[tuple[str, Sequence[Proposed]]]) -> int:
        """Write events that have been checked, in this order; return the last one's position."""
        position = -1
        for stream, events in writes:
            found = self._streams.setdefault(stream, Stream())
            self._undelete(found)
            for event in events:
                position = self._log(stream, found.head + 1, event)
                found.records.append(self.log[-1])
                self._remember(stream, event.id, found.head)
            if stream.startswith("$$"):
                self._apply_metadata(stream[2:], json.loads(found.records[-1].event.data))
        self.on_commit()
        return position

    def delete(self, stream: str, expected: int) -> None:
        """Delete a stream softly: it reads as missing, and its numbering goes on."""
        self.check(stream, expected)
        if self.stream(stream).head < 0:
            raise WrongExpectedVersion(stream, expected, -1)
        self.truncate(stream, LAST_REVISION)

    def truncate(self, stream: str, before: int) -> None:
        """Hide the events of a stream below a revision; the last one of all deletes it."""
        self.write([(f"$${stream}", [_json_event("$metadata", {"$tb": before})])])

    def tombstone(self, stream: str, expected: int) -> None:
        """Delete a stream for good."""
        self.check(stream, expected)
        found = self._streams.setdefault(stream, Stream())
        found.tombstoned = True
        self._log(stream, LAST_REVISION, _json_event("$streamDeleted", {}))
        self.on_commit()

    # Reading.

    def stream(self, name: str) -> Stream:
        """Return what is known of a stream; an empty one if nothing is."""
        return self._streams.get(name) or Stream()

    def read(
        self, name: str, revision: int | None, count: int, *, backwards: bool
    ) -> Sequence[Record]:
        """Read a stream; revision None is the start, or the end if it goes backwards."""
        found = self.stream(name)
        if found.tombstoned:
            raise StreamDeleted(name)
        records = self._indexed(found.records)
        if not records or found.soft_deleted:
            raise NotFound
        events = found.visible(records)
        if backwards:
            last = LAST_REVISION if revision is None else revision
            return [record for record in reversed(events) if record.revision <= last][:count]
        first = max((revision or 0) - (events[0].revision if events else 0), 0)
        return events[first : first + count]

    def read_log(self) -> Sequence[Record]:
        """Return the log as far as it has been indexed."""
        return self._indexed(self.log)

    def index_of(self, position: int) -> int:
        """Find the record that begins at a position."""
        if position >= self.end:
            return len(self.log)
        if position not in self._by_position:
            raise InvalidPosition
        return self._by_position[position]

    # Inner rules.

    def earlier(self, stream: str, expected: int, events: Sequence[Proposed]) -> Appended | None:
        """Find an earlier try of an append, where the server looks for one.

        Raises:
            WrongExpectedVersion: only a part of it is there, and no version was expected.
        """
        found = self.stream(stream)
        if not events or expected == found.head:
            return None
        if expected in {ANY, EXISTS}:
            # Only what is in a cache of recent ids is found.
            places = [self._recent.get((stream, event.id)) for event in events]
            first = places[0]
            if first is None:
                return None
            if places != list(range(first, first + len(events))):
                raise WrongExpectedVersion(stream, expected, found.head)
        else:
            first = expected + 1
        records = found.records[first : first + len(events)]
        if [record.event.id for record in records] != [event.id for event in events]:
            return None
        return Appended(records[-1].revision, records[-1].position)

    def _indexed(self, records: list[Record]) -> Sequence[Record]:
        if self.horizon is None:
            return records
        return [record for record in records if record.position < self.horizon]

    def _log(self, stream: str, revision: int, event: Proposed) -> int:
        position = self.end
        # Each event has a time of its own, and no two have the same microsecond here.
        self._last_tick = max(time.time_ns() // 100, self._last_tick + 10)
        self.log.append(Record(position, stream, revision, self._last_tick, event))
        self._by_position[position] = len(self.log) - 1
        self.end += 92 + len(stream.encode()) + len(event.data) + len(event.metadata)
        return position

    def _remember(self, stream: str, event_id: str, revision: int) -> None:
        self._recent[stream, event_id] = revision
        while len(self._recent) > self._remembered_ids:
            self._recent.popitem(last=False)

    def _undelete(self, found: Stream) -> None:
        if found.soft_deleted:
            found.truncate_before = found.head + 1

    def _apply_metadata(self, stream: str, metadata: dict[str, Any]) -> None:
        found = self._streams.setdefault(stream, Stream())
        found.has_metadata = True
        found.truncate_before = metadata.get("$tb", 0)
        found.max_count = metadata.get("$maxCount")
        found.max_age = metadata.get("$maxAge")


def matcher(regex: str, prefixes: Sequence[str]) -> Callable[[str], bool]:
    """Make the test that a filter's expression stands for."""
    if regex:
        return lambda text: re.search(regex, text) is not None
    return lambda text: text.startswith(tuple(prefixes))


def _check_request(stream: str, events: Sequence[Proposed]) -> None:
    if not stream:
        raise BadRequest("Invalid stream ID:")
    for event in events:
        if UUID(event.id).int == 0:
            raise BadRequest("Empty eventId provided. (Parameter 'eventId')")
        if not event.type:
            raise BadRequest("Empty eventType provided. (Parameter 'eventType')")


def _json_event(event_type: str, data: dict[str, Any]) -> Proposed:
    return Proposed(str(uuid4()), event_type, "application/json", json.dumps(data).encode(), b"")
