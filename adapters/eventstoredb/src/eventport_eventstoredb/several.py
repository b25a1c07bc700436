"""Commits over several streams, written or only checked, by the newer protocol."""

from __future__ import annotations

import asyncio

from collections import Counter
from collections.abc import Sequence
from typing import Final

from eventport.adapter import (
    Commit,
    Committed,
    Conflict,
    ConnectionLostError,
    EncodedEvent,
    StreamGuard,
    Written,
)
from eventport.errors import NotSupportedError
from eventport.expectations import Expectation, exact_version, holds

from eventport_eventstoredb.client import Client, MultiStreamMode
from eventport_eventstoredb.errors import Refused, StreamDeletedError
from eventport_eventstoredb.messages import ANY, EXISTS, NO_STREAM
from eventport_eventstoredb.streams import Heads, StreamReads, metadata_of
from eventport_eventstoredb.wire import to_position


_GONE: Final = -100
"""No revision: the stream does not exist, and must."""

_METADATA_MOVED: Final = "the metadata of a stream that the commit depends on has changed meanwhile"


class SeveralStreams:
    """Writes commits over several streams.

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
        self._mode: MultiStreamMode | None = mode

    async def commit(self, commit: Commit, *, again: bool) -> Committed | Conflict:
        """Write one commit.

        Args:
            commit: What to write.
            again: Whether the answer to an earlier try was lost. All that is expected is exact, so
                only one of the tries can be written.
        """
        mode = self._mode
        if mode is None:
            message = "this server or client cannot commit several streams together"
            raise NotSupportedError(message)
        if again and (found := await self._earlier(commit, again=again)):
            return found
        writes = _adjacent(commit)
        wanted: dict[str, Expectation] = {}
        for write in commit.writes:
            wanted.setdefault(write.stream, write.expected)
        guards = [guard for guard in commit.guards if isinstance(guard, StreamGuard)]
        # The writes come first: of several conflicts, the server's first one is raised.
        wanted |= {guard.stream: guard.expected for guard in guards}
        _check_names(mode, [stream for stream, _ in writes], [guard.stream for guard in guards])
        pins = await self._pins(guards)
        if isinstance(pins, Conflict):
            return await self._earlier(commit, again=again) or pins
        expected = {stream: _revision(expectation) for stream, expectation in wanted.items()} | pins
        try:
            result = await self._client.append_several(mode, writes, expected)
        except StreamDeletedError as exc:
            return await self._deleted(exc, wanted, {stream for stream, _ in writes})
        if not isinstance(result, Refused):
            position = to_position(result.commit_position)
            return self._committed(commit, result.versions, position, deduplicated=False)
        if found := await self._earlier(commit, again=again):
            return found
        if result.stream not in wanted:
            raise ConnectionLostError(_METADATA_MOVED)
        shown = await self._streams.shown_version(result.stream, result.version)
        return Conflict(result.stream, wanted[result.stream], shown)

    async def _pins(self, guards: Sequence[StreamGuard]) -> dict[str, int] | Conflict:
        """Look for what the server's checks would let pass.

        It would accept the existence of a stream of which only metadata was ever set, and an exact
        version of a softly deleted one.

        Returns:
            The revisions at which streams of metadata must be until the commit, so that it
            conflicts with a deletion after this look; or the conflict of the first guard that does
            not hold.
        """
        looked = await asyncio.gather(*map(self._pin, guards))
        pins: dict[str, int] = {}
        for guard, revision in zip(guards, looked, strict=True):
            if revision == _GONE:
                return Conflict(guard.stream, guard.expected, 0)
            if revision is not None:
                pins[metadata_of(guard.stream)] = revision
        return pins

    async def _pin(self, guard: StreamGuard) -> int | None:
        """Return the revision of a stream's metadata, if that matters; `_GONE` for a conflict."""
        stream, expected = guard.stream, guard.expected
        if holds(expected, 0):
            return None
        if expected == "stream_exists":
            return None if await self._streams.head(stream) else _GONE
        deletion = await self._streams.deletion(stream)
        # A stream that comes back has its new events a little before its new metadata.
        if deletion.soft and not await self._streams.head(stream):
            return _GONE
        return deletion.revision

    async def _deleted(
        self, exc: StreamDeletedError, wanted: dict[str, Expectation], written: set[str]
    ) -> Conflict:
        """Return a conflict, unless a stream that is written has a tombstone."""
        if exc.stream not in wanted:
            raise exc
        if exc.stream in written and await self._streams.is_tombstoned(exc.stream):
            raise exc
        return Conflict(exc.stream, wanted[exc.stream], 0)

    async def _earlier(self, commit: Commit, *, again: bool) -> Committed | None:
        """Find a whole commit by the ids of its events, at the versions that it expects."""
        versions: dict[str, int] = {}
        position = 0
        for write in commit.writes:
            before = exact_version(write.expected)
            if before is None:
                return None
            found = await self._streams.earlier(write.stream, before, write.events)
            if found is None:
                return None
            versions[write.stream] = found.version
            position = max(position, found.position)
        return self._committed(commit, versions, position, deduplicated=not again)

    def _committed(
        self, commit: Commit, versions: dict[str, int], position: int, *, deduplicated: bool
    ) -> Committed:
        """Make the outcome of the answer: the last version of each stream, and one position."""
        left = Counter[str]()
        for write in commit.writes:
            left[write.stream] += len(write.events)
        seen: set[str] = set()
        written: list[Written] = []
        for write in commit.writes:
            stream = write.stream
            left[stream] -= len(write.events)
            version = versions[stream] - left[stream]
            created = stream not in seen and exact_version(write.expected) == 0
            seen.add(stream)
            written.append(Written(version, [position], created))
        for stream, version in versions.items():
            self._heads.note(stream, version, position)
        return Committed(written, deduplicated)


def _revision(expected: Expectation) -> int:
    match expected:
        case "any":
            return ANY
        case "no_stream" | 0:
            return NO_STREAM
        case "stream_exists":
            return EXISTS
        case version:
            return version - 1


def _adjacent(commit: Commit) -> list[tuple[str, list[EncodedEvent]]]:
    """Join writes of one stream that follow each other."""
    joined: list[tuple[str, list[EncodedEvent]]] = []
    for write in commit.writes:
        if joined and joined[-1][0] == write.stream:
            joined[-1][1].extend(write.events)
        else:
            joined.append((write.stream, list(write.events)))
    return joined


def _check_names(mode: MultiStreamMode, streams: Sequence[str], guarded: Sequence[str]) -> None:
    """Refuse names that the server's calls would mix up."""
    spelled: dict[str, str] = {}
    for stream in (*streams, *guarded):
        other = spelled.setdefault(_letters(stream), stream)
        if other != stream:
            message = (
                f"the names {other!r} and {stream!r} differ in case only, and KurrentDB takes them "
                "for one stream in a commit over several: commit them one after the other"
            )
            raise NotSupportedError(message)
    if mode == "streams" and len(set(streams)) < len(streams):
        message = (
            "KurrentDB 25.1 commits several streams one after the other, each once: append to "
            "each stream in one turn, or use KurrentDB 26.0.3 or newer"
        )
        raise NotSupportedError(message)


def _letters(name: str) -> str:
    """Return a name as the server compares it, or a little more alike."""
    upper = [letter.upper() for letter in name]
    return "".join(
        one if len(one) == 1 else letter for one, letter in zip(upper, name, strict=True)
    )
