"""What reads show of single streams: pages, heads, and events by their ids."""

from __future__ import annotations

import asyncio

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from eventport.adapter import MAX_INT, EncodedEvent, StreamPage, StreamQuery
from eventport.errors import EventportError, StoreUnavailableError
from eventport.events import RecordedEvent

from eventport_eventstoredb.calls import now
from eventport_eventstoredb.client import Client
from eventport_eventstoredb.errors import StreamDeletedError
from eventport_eventstoredb.messages import NO_STREAM
from eventport_eventstoredb.wire import Stored, decode


PAGE_EVENTS: Final = 1_001
"""A page ends at so many events: those of a `read_all`, and one that was seen before."""

_REMEMBERED: Final = 10_000
"""Of how many streams the heads are remembered."""

_LONGEST_PAUSE: Final = 0.05


@dataclass(frozen=True)
class Found:
    """An append that is in its stream."""

    version: int
    """The version of its last event."""
    position: int
    """The global position of its last event."""
    deduplicated: bool


@dataclass(frozen=True)
class Deletion:
    """What a stream's metadata says of its deletion."""

    revision: int
    """The revision of the stream of metadata; a deletion moves it on."""
    soft: bool
    """Whether the stream is softly deleted."""


def metadata_of(stream: str) -> str:
    """Return the name of the stream that holds a stream's metadata."""
    return f"$${stream}"


class Heads:
    """What this store has seen of streams' heads; a stream may have moved on since."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()
        self.position = 0
        """The last global position seen."""

    def get(self, stream: str) -> int | None:
        """Return a head seen before."""
        return self._seen.get(stream)

    def note(self, stream: str, version: int, position: int = 0) -> None:
        """Remember a head. An older view, which arrives late, never replaces a newer one.

        A stream that is gone may have been deleted, or be seen late: of that, nothing is known.
        """
        if version == 0 and self._seen.pop(stream, 0):
            return
        self._seen[stream] = max(version, self._seen.get(stream, 0))
        self._seen.move_to_end(stream)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        self.position = max(self.position, position)


class StreamReads:
    """Reads single streams, and remembers their heads.

    Args:
        client: Asks the server.
        heads: What the store has seen.
    """

    def __init__(self, client: Client, heads: Heads) -> None:
        self._client = client
        self._heads = heads

    async def page(self, query: StreamQuery) -> StreamPage:
        """Read a page, and the stream's true head."""
        stream, first, backwards = query.stream, query.first, query.backwards
        limit = PAGE_EVENTS if query.max_count is None else min(query.max_count, PAGE_EVENTS)
        if query.last == MAX_INT and limit:
            # The end of the stream is in reach, perhaps, and then its head is known, too.
            revision = None if backwards or first == 1 else first - 1
            read = await self._read(stream, revision, limit, backwards=backwards)
            if read is None:
                return StreamPage([], 0)
            found, ended = read
            if found and (ended or backwards):
                head = found[0 if backwards else -1].stream_revision + 1
                return StreamPage(_decode(found, query), head)
            if found:
                return StreamPage(_decode(found, query), await self.head(stream))
        head = await self.head(stream)
        wanted = query.clip(head)[:limit]
        if not wanted:
            return StreamPage([], head)
        read = await self._read(stream, wanted[0] - 1, len(wanted), backwards=backwards)
        return StreamPage(_decode(read[0] if read else [], query), head)

    async def head(self, stream: str) -> int:
        """Ask for a stream's version as reads show it."""
        read = await self._read(stream, None, 1, backwards=True)
        if read is None:
            version = 0
        elif read[0]:
            version = read[0][0].stream_revision + 1
        else:
            version = await self._client.ask_version(stream)
        self._heads.note(stream, version)
        return version

    async def shown_version(self, stream: str, version: int) -> int:
        """Wait until reads show a version that a conflict has reported; return what they show.

        The server checks appends against what it has not indexed yet. A stream that was deleted
        never shows it; its version is 0.
        """
        pause, end = 0.002, now() + self._client.attempt
        while (head := await self.head(stream)) < version:
            if head == 0 and await self._is_deleted(stream):
                break
            if now() + pause > end:
                return version
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return head

    async def deletion(self, stream: str) -> Deletion:
        """Read in a stream's metadata whether it is softly deleted.

        Raises:
            ConfigurationError: the caller may not read the metadata.
        """
        read = await self._read(metadata_of(stream), None, 1, backwards=True)
        if read is None or not read[0]:
            return Deletion(NO_STREAM, soft=False)
        (event,) = read[0]
        try:
            metadata = msgspec.json.decode(event.data, type=_Metadata)
        except msgspec.MsgspecError:
            metadata = _Metadata()  # the server ignores it, too
        return Deletion(event.stream_revision, soft=metadata.truncate_before == MAX_INT)

    async def is_tombstoned(self, stream: str) -> bool:
        """Return whether a stream was deleted for good, not only softly."""
        try:
            await self._client.read(stream, None, 1, backwards=True)
        except StreamDeletedError:
            return True
        return False

    async def events(self, stream: str, first: int, last: int) -> list[RecordedEvent]:
        """Read events of a stream from a version to a version, as far as they are there."""
        events: list[RecordedEvent] = []
        while first <= last:
            limit = min(last - first + 1, PAGE_EVENTS)
            read = await self._read(stream, first - 1, limit)
            if read is None or not read[0]:
                break
            found = _decode(read[0], StreamQuery(stream, first, last))
            events += found
            if len(found) < len(read[0]):
                break
            first = found[-1].version + 1
        return events

    async def earlier(
        self, stream: str, before: int, events: Sequence[EncodedEvent]
    ) -> Found | None:
        """Find an earlier try of an append, by its ids at its versions."""
        last = before + len(events)
        found = await self.events(stream, before + 1, last)
        if [one.id for one in found] != [one.id for one in events]:
            return None
        return Found(last, found[-1].position, deduplicated=True)

    async def find(
        self, stream: str, events: Sequence[EncodedEvent], head: int, floor: int
    ) -> Found | None:
        """Find where an attempt of an append was written, after all that was seen before it."""
        last = head
        while last > 0:
            found = await self.events(stream, max(last - 499, 1), last)
            for place, event in enumerate(found):
                if event.id == events[-1].id and event.position > floor:
                    return Found(event.version, event.position, deduplicated=False)
                if place == 0 and event.position <= floor:
                    last = 0
            last = min(last, found[0].version if found else 0) - 1
        return None

    async def _read(
        self,
        stream: str,
        revision: int | None,
        limit: int,
        *,
        backwards: bool = False,
    ) -> tuple[list[Stored], bool] | None:
        try:
            return await self._client.read(stream, revision, limit, backwards=backwards)
        except StreamDeletedError:
            return None

    async def _is_deleted(self, stream: str) -> bool:
        """Return whether a stream that reads as missing is so for a deletion."""
        try:
            return await self.is_tombstoned(stream) or (await self.deletion(stream)).soft
        except StoreUnavailableError:
            raise
        except EventportError:
            return True  # without access to the metadata there is nothing to wait for


class _Metadata(msgspec.Struct, rename={"truncate_before": "$tb"}):
    """What of a stream's metadata says that it is softly deleted."""

    truncate_before: int = 0


def _decode(found: Sequence[Stored], query: StreamQuery) -> list[RecordedEvent]:
    """Decode what is in the range: of a truncated stream the server gives what comes next."""
    first, last = query.first, query.last
    return [decode(event) for event in found if first <= event.stream_revision + 1 <= last]
