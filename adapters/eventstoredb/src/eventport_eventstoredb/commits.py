"""Commits: each a request of its own, and what becomes of it if its answer is lost."""

from __future__ import annotations

import logging

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from eventport.adapter import Commit, Committed, Conflict, EncodedEvent, Failed, Outcome, Written
from eventport.errors import EventportError
from eventport.events import RecordedEvent
from eventport.expectations import Expectation, exact_version

from eventport_eventstoredb.client import Appended, Client, MultiStreamMode
from eventport_eventstoredb.errors import Refused, StreamDeletedError
from eventport_eventstoredb.messages import ANY, EXISTS, NO_STREAM
from eventport_eventstoredb.progress import Progress, sent, until_known
from eventport_eventstoredb.several import SeveralStreams
from eventport_eventstoredb.streams import Found, Heads, StreamReads
from eventport_eventstoredb.wire import to_position


_log: Final = logging.getLogger("eventport")


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

    async def commit(self, commit: Commit, *, fully: bool) -> Outcome:
        """Write one commit.

        Args:
            commit: What to write.
            fully: Whether each event's position and time are needed.
        """
        progress = Progress(self._client.deadline())
        try:
            if len({write.stream for write in commit.writes}) > 1:
                outcome = await self._several.commit(commit, progress)
            else:
                outcome = await self._commit_one(commit, progress)
        # Others may have been written at the same time: an error of this one must not be theirs.
        except Exception as exc:  # noqa: BLE001  # it is handed to the caller
            return Failed(exc)
        if isinstance(outcome, Committed) and fully:
            return await self._read_back(commit, outcome)
        return outcome

    # One stream.

    async def _commit_one(self, commit: Commit, progress: Progress) -> Outcome:
        stream, expected = commit.writes[0].stream, commit.writes[0].expected
        events = [event for write in commit.writes for event in write.events]
        exact = exact_version(expected)

        async def attempt() -> Conflict | Found | None:
            if exact is None:
                return await self._append_any(stream, expected, events, progress, floor)
            if exact == 0:
                return await self._append_new(stream, expected, events, progress)
            return await self._append_exact(stream, exact, events, progress)

        floor = self._heads.position
        outcome: Conflict | Found = await until_known(progress, attempt)
        if isinstance(outcome, Conflict):
            return outcome
        self._heads.note(stream, outcome.version, outcome.position)
        first = outcome.version - len(events)
        written: list[Written] = []
        for write in commit.writes:
            created = not written and (first == 0 or exact == 0)
            first += len(write.events)
            written.append(Written(first, [outcome.position], created))
        return Committed(written, datetime.now(UTC), outcome.deduplicated)

    async def _append_new(
        self,
        stream: str,
        expected: Expectation,
        events: Sequence[EncodedEvent],
        progress: Progress,
    ) -> Conflict | Found | None:
        """Append to a stream that must not exist.

        The server knows a retry, but does not say that it was one; so it is asked for the version
        before the append, in the same call.
        """
        floor = self._heads.position
        result = await sent(
            progress,
            self._client.append(stream, NO_STREAM, events, progress.deadline, probe=True),
        )
        if isinstance(result, Refused):
            return await self._conflict(stream, expected, result.version, progress)
        position = to_position(result.commit_position)
        if result.before is None:
            earlier = position <= floor
        else:
            earlier = result.version <= result.before
            if earlier and await self._is_gone(stream, events, progress):
                return await self._revive(stream, result.before, events, progress)
        return Found(result.version, position, earlier and not progress.unknown)

    async def _is_gone(
        self, stream: str, events: Sequence[EncodedEvent], progress: Progress
    ) -> bool:
        """Return whether an earlier try was deleted with its stream, and not only hidden."""
        if await self._streams.earlier(stream, 0, events, progress.deadline):
            return False
        return await self._streams.head(stream, progress.deadline) == 0

    async def _revive(
        self, stream: str, version: int, events: Sequence[EncodedEvent], progress: Progress
    ) -> Found | None:
        """Append to a stream that was deleted softly, but still knows the ids of its events.

        It would drop them again. At its last revision the server does not compare ids.
        """
        result = await sent(
            progress, self._client.append(stream, version - 1, events, progress.deadline)
        )
        if isinstance(result, Refused):
            return None  # another writer was faster
        return Found(result.version, to_position(result.commit_position), deduplicated=False)

    async def _append_exact(
        self, stream: str, exact: int, events: Sequence[EncodedEvent], progress: Progress
    ) -> Conflict | Found | None:
        """Append at a version above 0. To send it again is safe: the server compares the ids."""
        if not progress.unknown and self._heads.get(stream) != exact:
            head = await self._streams.head(stream, progress.deadline)
            if head != exact:
                found = await self._streams.earlier(stream, exact, events, progress.deadline)
                return found or Conflict(stream, exact, head)
        floor = self._heads.position
        result = await sent(
            progress, self._client.append(stream, exact - 1, events, progress.deadline)
        )
        if isinstance(result, Refused):
            return await self._conflict(stream, exact, result.version, progress)
        position = to_position(result.commit_position)
        return Found(result.version, position, position <= floor and not progress.unknown)

    async def _append_any(
        self,
        stream: str,
        expected: Expectation,
        events: Sequence[EncodedEvent],
        progress: Progress,
        floor: int,
    ) -> Conflict | Found | None:
        """Append at whatever version. Sent again, it might be written twice, so it is looked for.

        What is sent again names the head at which the events were not found.
        """
        if not progress.sent:
            # The server would be content with a stream of which only metadata was ever set.
            if expected == "stream_exists" and not await self._streams.head(
                stream, progress.deadline
            ):
                return Conflict(stream, expected, 0)
            found = await self._append_loosely(stream, expected, events, progress, floor)
            if found is not None:
                return found
        head = await self._streams.head(stream, progress.deadline)
        if found := await self._streams.find(stream, events, head, floor, progress.deadline):
            return found
        result = await sent(
            progress, self._client.append(stream, head - 1, events, progress.deadline)
        )
        if isinstance(result, Refused):
            return None  # another writer was faster, perhaps an attempt of our own
        return Found(result.version, to_position(result.commit_position), deduplicated=False)

    async def _append_loosely(
        self,
        stream: str,
        expected: Expectation,
        events: Sequence[EncodedEvent],
        progress: Progress,
        floor: int,
    ) -> Conflict | Found | None:
        """Make the first attempt of an append at whatever version; None if that must be named."""
        revision = ANY if expected == "any" else EXISTS
        try:
            result = await sent(
                progress, self._client.append(stream, revision, events, progress.deadline)
            )
        except StreamDeletedError:
            # So it says of a softly deleted stream, too, if the stream has to exist.
            if revision == EXISTS and not await self._streams.is_tombstoned(
                stream, progress.deadline
            ):
                return Conflict(stream, expected, 0)
            raise
        if isinstance(result, Appended):
            position = to_position(result.commit_position)
            # The server knows ids that it has seen lately, and does not write them again.
            return Found(result.version, position, position <= floor)
        if revision == EXISTS:
            return await self._conflict(stream, expected, result.version, progress)
        return None  # a part of the events has been written before

    async def _conflict(
        self, stream: str, expected: Expectation, version: int, progress: Progress
    ) -> Conflict:
        """Make a conflict whose version can be read by the time that it is reported."""
        shown = await self._streams.shown_version(stream, version, progress.deadline)
        return Conflict(stream, expected, shown)

    # Both.

    async def _read_back(self, commit: Commit, outcome: Committed) -> Committed:
        """Read what the answer did not hold: each event's position and time.

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
            positions = [event.position if event else one.positions[-1] for event in events]
            times = [event.recorded_at if event else None for event in events]
            written.append(Written(one.version, positions, one.created, times))
        return Committed(written, outcome.recorded_at, outcome.deduplicated)

    async def _read_range(self, stream: str, first: int, last: int) -> dict[int, RecordedEvent]:
        try:
            events = await self._streams.events(stream, first, last, self._client.deadline())
        except EventportError as exc:
            _log.warning(
                "stream %r: versions %d to %d were written, but could not be read back: %s",
                stream,
                first,
                last,
                exc,
            )
            return {}
        return {event.version: event for event in events}
