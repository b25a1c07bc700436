"""The unit of work: it buffers appends, shows them to its own reads, and commits once."""

from __future__ import annotations

import random

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import sleep

from eventport.codec import decode_event, encode_events
from eventport.commits import Commit, EncodedEvent, StreamPage, StreamWrite
from eventport.errors import ConcurrencyError, StoreClosedError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation, exact_version, holds
from eventport.protocols import Capability
from eventport.results import AppendResult
from eventport.streams import StreamReader
from eventport.validation import check_expectation, check_int, check_stream


if TYPE_CHECKING:
    from eventport.adapter import BaseEventStore
    from eventport.protocols import EventStore, Session


T = TypeVar("T")

ATTEMPTS: Final = 5
"""How often something is tried at the most that others may get ahead of, if nobody says."""

_LONGEST_PAUSE: Final = 6  # doublings, which make a third of a second


class UnitOfWork(StreamReader):
    """A `Session` over `BaseEventStore`.

    It holds no transaction and no lock while the caller works. Instead it pins each stream at
    the version at which it first saw it, reads it at that version from then on, and lets the one
    commit at the end expect that version.
    """

    def __init__(self, store: BaseEventStore) -> None:
        self._store = store
        self._pins: dict[str, int] = {}
        self._own: dict[str, list[tuple[EncodedEvent, datetime]]] = {}
        self._latest: dict[str, datetime] = {}
        """The latest time of the stored events of a stream that were read."""
        self._writes: list[StreamWrite] = []
        self._ended = False
        self._position: int | None = None

    @property
    def position(self) -> int | None:
        """See `Session.position`."""
        return self._position

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, expected: Expectation = ANY
    ) -> AppendResult:
        """Keep events for the commit.

        Returns:
            The version that the stream will have; its position is not known yet.

        Raises:
            ConcurrencyError: `expected` does not hold for the stream as this session sees it.
            NotSupportedError: this would be the second stream, and the backend cannot do that.
        """
        stream = check_stream(stream)
        expected = check_expectation(expected)
        encoded = encode_events(events)
        pin = self._pins.get(stream)
        if pin is None:
            head = (await self.read_page(stream, 1, 1, 0, backwards=False)).version
        else:
            self._check_open()
            head = pin + len(self._own.get(stream, ()))
        if not holds(expected, head):
            if earlier := await self._earlier_try(stream, expected, encoded):
                return earlier
            raise ConcurrencyError(stream, expected, head)
        if not encoded:
            return AppendResult(head, None, created=False, deduplicated=False)
        self._check_open()  # the block may have been left meanwhile, by another task
        if self._own and stream not in self._own:
            self._store.require_capability(Capability.SESSIONS)
        own = self._own.setdefault(stream, [])
        now = max(datetime.now(UTC), own[-1][1]) if own else datetime.now(UTC)
        own.extend((event, now) for event in encoded)
        self._writes.append(StreamWrite(stream, head, encoded))
        return AppendResult(head + len(encoded), None, created=head == 0, deduplicated=False)

    async def commit(self) -> None:
        """Write all that was appended in one atomic commit, and end the session."""
        self.end()
        if self._writes:
            committed = await self._store.submit(Commit(self._writes))
            self._position = committed.writes[-1].positions[-1]

    def end(self) -> None:
        """Let nothing more be done with this session."""
        self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            message = "this session has ended: its block was left"
            raise StoreClosedError(message)

    async def read_page(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        """Fetch a page as this session sees it; see `StreamReader.read_page`."""
        self._check_open()
        pin = self._pins.get(stream)
        if pin is None:
            page = await self._store.read_page(stream, first, last, max_count, backwards=backwards)
            # Two tasks of one session may both have come here: the first one's view stands.
            pin = self._pins.setdefault(stream, page.version)
            self._note_times(stream, page.events)
            if pin == page.version and stream not in self._own:
                return page
        # The view is that of this moment, whatever other tasks append while this one waits.
        head = pin + len(self._own.get(stream, ()))
        last = min(last, head)
        limit = min(last, pin)
        if backwards:
            above = max(0, last - max(first - 1, pin))
            left = None if max_count is None else max(0, max_count - above)
            below = await self._stored_events(stream, first, limit, left, backwards=True)
            own = self._own_events(stream, pin, first, last, max_count, backwards=True)
            return StreamPage([*own, *below], head)
        below = await self._stored_events(stream, first, limit, max_count, backwards=False)
        if below and below[-1].version < limit:
            return StreamPage(below, head)  # there is more below the session's own events
        left = None if max_count is None else max_count - len(below)
        own = self._own_events(stream, pin, first, last, left, backwards=False)
        return StreamPage([*below, *own], head)

    async def _stored_events(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> Sequence[RecordedEvent]:
        if first > last or max_count == 0:
            return []
        page = await self._store.read_page(stream, first, last, max_count, backwards=backwards)
        self._note_times(stream, page.events)
        return page.events

    def _note_times(self, stream: str, events: Sequence[RecordedEvent]) -> None:
        """Take note of the times, so that those of own events are not before them."""
        if events:
            latest = max(events[0].recorded_at, events[-1].recorded_at)
            self._latest[stream] = max(latest, self._latest.get(stream, latest))

    def _own_events(
        self,
        stream: str,
        pin: int,
        first: int,
        last: int,
        max_count: int | None,
        *,
        backwards: bool,
    ) -> list[RecordedEvent]:
        """Decode this session's own events in a range of versions."""
        first = max(first, pin + 1)
        if max_count is not None:
            if backwards:
                first = max(first, last - max_count + 1)
            else:
                last = min(last, first + max_count - 1)
        versions = range(first, last + 1)
        own = self._own.get(stream, [])
        latest = self._latest.get(stream)
        events: list[RecordedEvent] = []
        for version in reversed(versions) if backwards else versions:
            event, time = own[version - pin - 1]
            time = time if latest is None else max(time, latest)
            events.append(
                decode_event(
                    stream, version, 0, event.type, event.data, event.metadata, event.id, time
                )
            )
        return events

    async def _earlier_try(
        self, stream: str, expected: Expectation, events: tuple[EncodedEvent, ...]
    ) -> AppendResult | None:
        """Find that exactly these events are in the stream already, at these versions."""
        before = exact_version(expected)
        if before is None or not events:
            return None
        last = before + len(events)
        found = await self.read(stream, from_version=before + 1, to_version=last)
        if [event.id for event in found.events] != [event.id for event in events]:
            return None
        position = found.events[-1].position or None
        return AppendResult(last, position, created=before == 0, deduplicated=True)


async def run_in_session(
    store: EventStore, function: Callable[[Session], Awaitable[T]], *, attempts: int = ATTEMPTS
) -> T:
    """Run a function in a session and commit; on a conflict run it again in a new session.

    The function must be free of other effects than those on the session, since it may run
    several times. Between two attempts there is a short random pause, so that rivals get apart.

    Args:
        store: Any event store.
        function: What to do; it gets the session.
        attempts: How often to try at the most.

    Returns:
        What the function returned in the attempt that was committed.

    Raises:
        ConcurrencyError: the last attempt had a conflict, too; nothing was written.
    """

    async def attempt() -> T:
        async with store.session() as session:
            return await function(session)

    return await retry_conflicts(attempt, attempts=attempts)


async def retry_conflicts(function: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """Run a function, and run it again as long as it raises `ConcurrencyError`.

    Args:
        function: What to do.
        attempts: How often to try at the most; the last conflict is raised.
    """
    attempts = check_int("attempts", attempts, least=1)
    for attempt in range(1, attempts):
        try:
            return await function()
        except ConcurrencyError:
            pass
        pause = 0.005 * 2 ** min(attempt, _LONGEST_PAUSE)
        await sleep(random.uniform(0, pause))  # noqa: S311  # no secret depends on it
    return await function()
