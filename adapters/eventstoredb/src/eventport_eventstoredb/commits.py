"""Commits: each a request of its own, and what becomes of it if its answer is lost."""

from __future__ import annotations

import logging

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from eventport.adapter import (
    AnswerLostError,
    Commit,
    Committed,
    Conflict,
    ConnectionLostError,
    EncodedEvent,
    Failed,
    Outcome,
    Written,
)
from eventport.errors import EventportError, PayloadTooLargeError
from eventport.events import RecordedEvent
from eventport.expectations import Expectation, exact_version

from eventport_eventstoredb.client import Appended, Client, MultiStreamMode
from eventport_eventstoredb.errors import Refused, StreamDeletedError
from eventport_eventstoredb.messages import ANY, EXISTS, NO_STREAM
from eventport_eventstoredb.several import SeveralStreams
from eventport_eventstoredb.streams import Found, Heads, StreamReads
from eventport_eventstoredb.wire import to_position


_log: Final = logging.getLogger("eventport")

_REMEMBERED: Final = 10_000
"""Of how many lost appends it is remembered where to look for them."""

_OVERTAKEN: Final = "another writer was faster"


class Committer:
    """Writes commits.

    Args:
        client: The connection.
        heads: What the store has seen.
        streams: Reads single streams.
        mode: How the server commits several streams; None if it does not.
    """

    def __init__(
        self, client: Client, heads: Heads, streams: StreamReads, mode: MultiStreamMode | None
    ) -> None:
        self._client = client
        self._heads = heads
        self._streams = streams
        self._several = SeveralStreams(client, heads, streams, mode)
        self._lost: OrderedDict[UUID, int] = OrderedDict()
        """The last position seen before each lost append, by the id of its last event."""

    async def commit(self, commit: Commit) -> Outcome:
        """Write one commit."""
        floor = self._heads.position
        try:
            outcome = await self._write(commit)
        # Other commits may have been written at the same time: this error must not become theirs.
        except Exception as exc:  # noqa: BLE001  # it is raised in the caller
            if isinstance(exc, AnswerLostError):
                self._note_lost(commit, floor)
            return Failed(exc)
        if isinstance(outcome, Committed) and commit.detailed:
            return await self._read_back(commit, outcome)
        return outcome

    async def find(self, commit: Commit) -> Committed | None:
        """Find a commit whose answer was lost; write it if it is not there.

        The server refuses an earlier try that arrives late: it compares ids, or versions.
        """
        try:
            outcome = await self._write_again(commit)
        except PayloadTooLargeError:
            return None  # the earlier try was refused for the same reason
        self._lost.pop(_key(commit), None)
        if isinstance(outcome, Committed) and commit.detailed:
            return await self._read_back(commit, outcome)
        return outcome if isinstance(outcome, Committed) else None

    def _note_lost(self, commit: Commit, floor: int) -> None:
        for write in commit.writes:
            # If it was lost twice, the first try may be the one that was written.
            self._lost.setdefault(write.events[-1].id, floor)
        while len(self._lost) > _REMEMBERED:
            self._lost.popitem(last=False)

    # One stream.

    async def _write(self, commit: Commit) -> Committed | Conflict:
        if _needs_several(commit):
            return await self._several.commit(commit, again=False)
        stream, expected, events = _parts(commit)
        exact = exact_version(expected)
        if exact is None:
            outcome = await self._append_any(stream, expected, events)
        elif exact == 0:
            outcome = await self._append_new(stream, expected, events, again=False)
        else:
            outcome = await self._append_exact(stream, exact, events, again=False)
        return self._committed(commit, outcome)

    async def _write_again(self, commit: Commit) -> Committed | Conflict:
        """Write a commit of which an earlier try may be written, or may still arrive."""
        if _needs_several(commit):
            return await self._several.commit(commit, again=True)
        stream, expected, events = _parts(commit)
        exact = exact_version(expected)
        if exact is None:
            floor = self._lost.get(_key(commit), 0)
            outcome = await self._append_at_head(stream, expected, events, floor)
        elif exact == 0:
            outcome = await self._append_new(stream, expected, events, again=True)
        else:
            outcome = await self._append_exact(stream, exact, events, again=True)
        return self._committed(commit, outcome)

    def _committed(self, commit: Commit, outcome: Found | Conflict) -> Committed | Conflict:
        if isinstance(outcome, Conflict):
            return outcome
        stream, expected, events = _parts(commit)
        self._heads.note(stream, outcome.version, outcome.position)
        first = outcome.version - len(events)
        written: list[Written] = []
        for write in commit.writes:
            created = not written and (first == 0 or exact_version(expected) == 0)
            first += len(write.events)
            written.append(Written(first, [outcome.position], created))
        return Committed(written, outcome.deduplicated)

    async def _append_new(
        self, stream: str, expected: Expectation, events: Sequence[EncodedEvent], *, again: bool
    ) -> Conflict | Found:
        """Append to a stream that must not exist.

        The server recognises a retry, but does not report that it was one. So the same call asks
        for the version before the append.
        """
        floor = self._heads.position
        result = await self._client.append(stream, NO_STREAM, events, probe=True)
        if isinstance(result, Refused):
            return await self._conflict(stream, expected, result.version)
        position = to_position(result.commit_position)
        if result.before is None:
            earlier = position <= floor
        else:
            earlier = result.version <= result.before
            if earlier and await self._is_gone(stream, events):
                return await self._revive(stream, result.before, events)
        return Found(result.version, position, earlier and not again)

    async def _is_gone(self, stream: str, events: Sequence[EncodedEvent]) -> bool:
        """Return whether an earlier try was deleted with its stream, and not only hidden."""
        if await self._streams.earlier(stream, 0, events):
            return False
        return await self._streams.head(stream) == 0

    async def _revive(self, stream: str, version: int, events: Sequence[EncodedEvent]) -> Found:
        """Append to a stream that was deleted softly, but still knows the ids of its events.

        It would drop them again. At its last revision the server does not compare ids.
        """
        result = await self._client.append(stream, version - 1, events)
        if isinstance(result, Refused):
            raise ConnectionLostError(_OVERTAKEN)
        return Found(result.version, to_position(result.commit_position), deduplicated=False)

    async def _append_exact(
        self, stream: str, exact: int, events: Sequence[EncodedEvent], *, again: bool
    ) -> Conflict | Found:
        """Append at a version above 0. To send it again is safe: the server compares the ids."""
        if not again and self._heads.get(stream) != exact:
            head = await self._streams.head(stream)
            if head != exact:
                found = await self._streams.earlier(stream, exact, events)
                return found or Conflict(stream, exact, head)
        floor = self._heads.position
        result = await self._client.append(stream, exact - 1, events)
        if isinstance(result, Refused):
            return await self._conflict(stream, exact, result.version)
        position = to_position(result.commit_position)
        return Found(result.version, position, position <= floor and not again)

    async def _append_any(
        self, stream: str, expected: Expectation, events: Sequence[EncodedEvent]
    ) -> Conflict | Found:
        """Append at any version."""
        # The server would accept a stream of which only metadata was ever set.
        if expected == "stream_exists" and not await self._streams.head(stream):
            return Conflict(stream, expected, 0)
        floor = self._heads.position
        revision = ANY if expected == "any" else EXISTS
        try:
            result = await self._client.append(stream, revision, events)
        except StreamDeletedError:
            # The server says this of a softly deleted stream, too, if the stream must exist.
            if revision == EXISTS and not await self._streams.is_tombstoned(stream):
                return Conflict(stream, expected, 0)
            raise
        if isinstance(result, Appended):
            position = to_position(result.commit_position)
            # The server knows ids that it has seen lately, and does not write them again.
            return Found(result.version, position, position <= floor)
        if revision == EXISTS:
            return await self._conflict(stream, expected, result.version)
        # A part of the events has been written before.
        return await self._append_at_head(stream, expected, events, floor)

    async def _append_at_head(
        self, stream: str, expected: Expectation, events: Sequence[EncodedEvent], floor: int
    ) -> Conflict | Found:
        """Find an append by its ids; if it is not there, append it at the searched head."""
        head = await self._streams.head(stream)
        if found := await self._streams.find(stream, events, head, floor):
            return found
        if expected == "stream_exists" and not head:
            return Conflict(stream, expected, 0)
        result = await self._client.append(stream, head - 1, events)
        if isinstance(result, Refused):
            raise ConnectionLostError(_OVERTAKEN)  # perhaps by an earlier try of our own
        return Found(result.version, to_position(result.commit_position), deduplicated=False)

    async def _conflict(self, stream: str, expected: Expectation, version: int) -> Conflict:
        """Make a conflict, once its version can be read."""
        shown = await self._streams.shown_version(stream, version)
        return Conflict(stream, expected, shown)

    # Both.

    async def _read_back(self, commit: Commit, outcome: Committed) -> Committed:
        """Read each event's position and time, which the answer did not hold.

        What is hidden by then, or cannot be read, is left out: the commit stands.
        """
        ranges: dict[str, tuple[int, int]] = {}
        for write, one in zip(commit.writes, outcome.writes, strict=True):
            first, _ = ranges.get(write.stream, (one.version - len(write.events) + 1, 0))
            ranges[write.stream] = first, one.version
        found = {stream: await self._read_range(stream, *where) for stream, where in ranges.items()}
        written: list[Written] = []
        for write, one in zip(commit.writes, outcome.writes, strict=True):
            versions = range(one.version - len(write.events) + 1, one.version + 1)
            events = [found[write.stream].get(version) for version in versions]
            positions = [event.position if event else None for event in events]
            positions[-1] = positions[-1] or one.positions[-1]
            times = [event.recorded_at if event else None for event in events]
            written.append(Written(one.version, positions, one.created, times))
        return Committed(written, outcome.deduplicated)

    async def _read_range(self, stream: str, first: int, last: int) -> dict[int, RecordedEvent]:
        try:
            events = await self._streams.events(stream, first, last)
        except EventportError as exc:
            _log.warning(
                "stream %r: versions %d to %d were written, but could not be read back: %s",
                stream,
                first,
                last,
                exc,
                extra={"eventport.stream": stream, "eventport.version": last},
            )
            return {}
        return {event.version: event for event in events}


def _needs_several(commit: Commit) -> bool:
    """Return whether a commit is about more than one stream, written or guarded."""
    return bool(commit.guards) or len({write.stream for write in commit.writes}) > 1


def _parts(commit: Commit) -> tuple[str, Expectation, list[EncodedEvent]]:
    """Return stream, expectation and events of a commit to one stream."""
    first = commit.writes[0]
    return first.stream, first.expected, [one for write in commit.writes for one in write.events]


def _key(commit: Commit) -> UUID:
    """Return what a lost commit is remembered by."""
    return commit.writes[-1].events[-1].id
