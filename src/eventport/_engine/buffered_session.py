"""A session that buffers appends, shows them to its own reads, and commits once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from eventport._engine.codec import decode_event
from eventport._engine.commits import (
    Commit,
    Committed,
    EncodedEvent,
    Guard,
    QueryGuard,
    StreamGuard,
    StreamWrite,
)
from eventport._engine.fetching import Pages
from eventport._engine.queries import StreamPage, StreamQuery
from eventport._engine.querying import Querying, check_guard, check_match_query
from eventport._engine.stream_reader import StreamReader, require
from eventport._engine.tokens import read_token
from eventport.boundaries import Query
from eventport.errors import ConcurrencyError, StoreClosedError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, STREAM_EXISTS, Expectation, exact_version, holds
from eventport.protocols import Capability
from eventport.results import AppendResult, QueryResult
from eventport.validation import (
    check_expectation,
    check_stream,
)


class BufferedSession(StreamReader):
    """A `Session` over a `Store`.

    It holds no transaction and no lock while the caller works. Instead it pins each stream at
    the version at which it first saw it, reads it at that version from then on, and lets the one
    commit at the end expect that version.

    Args:
        fetch: Fetches pages of streams as they are stored.
        submit: Writes the commit.
        querying: Reads what a query matches, and looks at guards.
        encode: Checks and encodes events for a stream.
        require_capability: Raises `NotSupportedError` for what the engine cannot do.
    """

    def __init__(
        self,
        fetch: Pages,
        submit: Callable[[Commit], Awaitable[Committed]],
        querying: Querying,
        encode: Callable[[str, object], tuple[EncodedEvent, ...]],
        require_capability: Callable[[Capability], None],
    ) -> None:
        self._fetch = fetch
        self._submit = submit
        self._querying = querying
        self._encode = encode
        self._require_capability = require_capability
        self._pins: dict[str, int] = {}
        self._own: dict[str, list[tuple[EncodedEvent, datetime]]] = {}
        self._latest: dict[str, datetime] = {}
        """The latest time of the stored events of a stream that were read."""
        self._writes: list[StreamWrite] = []
        self._expected: dict[str, Expectation] = {}
        """What was expected of streams; the strictest, of several for one stream."""
        self._queried: dict[QueryGuard, None] = {}
        """What was queried, in order."""
        self._ended = False
        self._position: int | None = None

    @property
    def position(self) -> int | None:
        """See `Session.position`."""
        return self._position

    async def require(self, stream: str, expected: Expectation) -> None:
        """See `Session.require`."""
        stream = check_stream(stream)
        expected = check_expectation(expected)
        self._require_capability(Capability.GUARDS)
        page = await self._page(StreamQuery(stream, max_count=0))
        self._meet(stream, expected, page.version)

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """See `Streams.query`: what is stored is a condition of the commit."""
        wanted = check_match_query(query, after, max_count, backwards=backwards)
        self._check_open()
        self._require_capability(Capability.GLOBAL_ORDER)
        self._require_capability(Capability.CONDITIONS)
        found = await self._querying.read(wanted)
        self._check_open()  # the block may have been left meanwhile, by another task
        self._queried[QueryGuard(query, read_token(found.token))] = None
        own = self._own_matches(query)
        events = own[::-1] + found.events if backwards else found.events + own
        return QueryResult(events[:max_count], found.position, found.token)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """Keep events for the commit.

        Returns:
            The version that the stream will have; its position is not known yet.

        Raises:
            ConcurrencyError: `expected` does not hold for the stream as this session sees it.
            NotSupportedError: this would be the second stream, or there is a condition, and the
                backend cannot do that.
        """
        stream = check_stream(stream)
        expected = check_expectation(expected)
        guards = check_guard(unless, since)
        if guards:
            self._require_capability(Capability.CONDITIONS)
        encoded = self._encode(stream, events)
        pin = self._pins.get(stream)
        if pin is None:
            head = (await self._page(StreamQuery(stream, max_count=0))).version
        else:
            self._check_open()
            head = pin + len(self._own.get(stream, ()))
        if not holds(expected, head):
            if earlier := await self._earlier_try(stream, expected, encoded):
                return earlier
            raise ConcurrencyError(stream, expected, head)
        self._check_open()  # the block may have been left meanwhile, by another task
        self._queried |= dict.fromkeys(guards)
        if not encoded:
            self._meet(stream, expected, head)
            return AppendResult(head, None, created=False, deduplicated=False)
        if self._own and stream not in self._own:
            self._require_capability(Capability.SESSIONS)
        own = self._own.setdefault(stream, [])
        now = max(datetime.now(UTC), own[-1][1]) if own else datetime.now(UTC)
        write = StreamWrite(stream, head, encoded)
        own.extend(zip(encoded, write.times(now), strict=True))
        self._writes.append(write)
        return AppendResult(head + len(encoded), None, created=head == 0, deduplicated=False)

    async def commit(self) -> None:
        """Write all that was appended in one atomic commit, and end the session.

        What was expected and queried holds then, or nothing is written.
        """
        self.end()
        guards = self._guards()
        if not self._writes:
            await self._querying.look(guards)
            return
        if any(isinstance(guard, StreamGuard) for guard in guards):
            self._require_capability(Capability.GUARDS)
        committed = await self._submit(Commit(self._writes, guards))
        self._position = committed.writes[-1].positions[-1]

    def end(self) -> None:
        """End the session: every later call on it is refused."""
        self._ended = True

    def _guards(self) -> list[Guard]:
        """Return what has to hold; a stream that is written is pinned by its write."""
        streams = [
            StreamGuard(stream, expected)
            for stream, expected in self._expected.items()
            if stream not in self._own
        ]
        return [*streams, *self._queried]

    def _meet(self, stream: str, expected: Expectation, actual: int) -> None:
        require(stream, expected, actual)
        if exact_version(expected) is not None or expected == STREAM_EXISTS:
            before = self._expected.setdefault(stream, expected)
            if before == STREAM_EXISTS:
                self._expected[stream] = expected

    def _check_open(self) -> None:
        if self._ended:
            message = "this session has ended: its block was left"
            raise StoreClosedError(message)

    async def _page(self, query: StreamQuery) -> StreamPage:
        """Fetch a page as this session sees it."""
        self._check_open()
        stream = query.stream
        pin = self._pins.get(stream)
        if pin is None:
            page = await self._stored(query)
            # Two tasks of one session may both have come here: the first one's view stands.
            pin = self._pins.setdefault(stream, page.version)
            if pin == page.version and stream not in self._own:
                return page
        # The view is that of this moment, whatever other tasks append while this one waits.
        head = pin + len(self._own.get(stream, ()))
        wanted = query.clip(head)
        if not wanted:
            return StreamPage([], head)
        low, high = min(wanted), max(wanted)
        stored = StreamQuery(stream, low, min(high, pin), backwards=query.backwards)
        older = StreamPage([], 0) if stored.is_empty else await self._stored(stored)
        below = older.events
        own = self._own_events(stream, pin, range(max(low, pin + 1), high + 1))
        if query.backwards:
            return StreamPage([*reversed(own), *below], head)
        if below and below[-1].version < stored.last:
            return StreamPage(below, head)  # there is more before the session's own events
        return StreamPage([*below, *own], head)

    async def _stored(self, query: StreamQuery) -> StreamPage:
        """Fetch a page of what is stored, and note its times: own events are not before them."""
        page = await self._fetch.stream(query)
        self._note_times(query.stream, page)
        return page

    async def _page_many(self, streams: Sequence[str]) -> Mapping[str, StreamPage]:
        """Fetch first pages as this session sees them; what it has not seen yet, all at once."""
        self._check_open()
        fresh = [stream for stream in streams if stream not in self._pins]
        if not fresh:
            return {streams[0]: await self._page(StreamQuery(streams[0]))}
        pages = dict(await self._fetch.many(fresh))
        for stream, page in list(pages.items()):
            self._note_times(stream, page)
            pin = self._pins.setdefault(stream, page.version)
            if pin != page.version or stream in self._own:  # another task was faster
                pages[stream] = await self._page(StreamQuery(stream))
        return pages

    async def _heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Fetch heads as this session sees them, and pin the streams."""
        self._check_open()
        fresh = [stream for stream in streams if stream not in self._pins]
        if fresh:
            for stream, head in (await self._fetch.heads(fresh)).items():
                self._pins.setdefault(stream, head)
            self._check_open()  # the block may have been left meanwhile, by another task
        return {stream: self._pins[stream] + len(self._own.get(stream, ())) for stream in streams}

    def _note_times(self, stream: str, page: StreamPage) -> None:
        if page.events:
            latest = max(page.events[0].recorded_at, page.events[-1].recorded_at)
            self._latest[stream] = max(latest, self._latest.get(stream, latest))

    def _own_events(self, stream: str, pin: int, versions: range) -> list[RecordedEvent]:
        """Decode this session's own events in a range of versions."""
        own = self._own.get(stream, [])
        events: list[RecordedEvent] = []
        for version in versions:
            event, time = own[version - pin - 1]
            if event.recorded_at is None:
                time = max(time, self._latest.get(stream, time))
            events.append(
                decode_event(
                    stream=stream,
                    version=version,
                    position=0,
                    type_=event.type,
                    data=event.data,
                    metadata=event.metadata,
                    id_=event.id,
                    recorded_at=time,
                    tags=event.tags,
                )
            )
        return events

    def _own_matches(self, query: Query) -> list[RecordedEvent]:
        """Return this session's own events that match a query, in the order of the commit."""
        found: list[RecordedEvent] = []
        for write in self._writes:
            pin, first = self._pins[write.stream], exact_version(write.expected) or 0
            versions = range(first + 1, first + 1 + len(write.events))
            found += self._own_events(write.stream, pin, versions)
        return [event for event in found if query.covers(event.type, event.tags)]

    async def _earlier_try(
        self, stream: str, expected: Expectation, events: Sequence[EncodedEvent]
    ) -> AppendResult | None:
        """Return the result of an earlier try, if the stream holds exactly these events."""
        before = exact_version(expected)
        if before is None or not events:
            return None
        last = before + len(events)
        found = await self.read(stream, from_version=before + 1, to_version=last)
        if [event.id for event in found.events] != [event.id for event in events]:
            return None
        position = found.events[-1].position or None
        return AppendResult(last, position, created=before == 0, deduplicated=True)
