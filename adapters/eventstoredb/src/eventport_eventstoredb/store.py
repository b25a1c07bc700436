"""The store in EventStoreDB or KurrentDB."""

from __future__ import annotations

import asyncio
import logging
import math

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import ClassVar, Final, Self

from eventport.adapter import AllPage, BaseEventStore, Commit, Outcome, StreamPage
from eventport.errors import (
    ConfigurationError,
    EventportError,
    StoreClosedError,
    StoreUnavailableError,
)
from eventport.events import RecordedEvent
from eventport.opening import open_to_end, require_asyncio
from eventport.protocols import Capability, Subscription
from eventport.adapter import redact
from eventport.validation import MAX_INT

from eventport_eventstoredb.client import Client, Refused, Together, load_library
from eventport_eventstoredb.commits import Committer, Heads
from eventport_eventstoredb.probe import A_PROBE
from eventport_eventstoredb.wire import (
    VISIBLE,
    Stored,
    decode,
    is_foreign,
    prefix_pattern,
    to_commit_position,
    to_position,
    type_pattern,
)


_log: Final = logging.getLogger("eventport")

PAGE_EVENTS: Final = 1_001
"""A page ends at so many events: those of a `read_all`, and one that was seen before."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends at about this size."""

_SCAN: Final = 500
"""How many events are fetched at least where a part of the filter is ours to apply."""

_MAX_RETRY_DELAY: Final = 2.0


class EventStoreDBEventStore(BaseEventStore):
    """An event store in EventStoreDB or KurrentDB. It runs under asyncio.

    Make one with `connect`. Of the clients ``esdbclient`` and ``kurrentdbclient``, one has to be
    installed.
    """

    limitations: ClassVar[dict[Capability, str]] = {
        Capability.SESSIONS: (
            "several streams in one commit take KurrentDB 25.1 or newer, and kurrentdbclient"
        ),
    }

    # The server's own subscription wakes ours: looking by itself is only for a lost sign.
    poll_interval = 1.0
    max_poll_interval = 5.0

    def __init__(self, url: str, client: Client, way: Together | None, timeout: float) -> None:
        super().__init__()
        self.capabilities = frozenset(Capability) - (frozenset() if way else {Capability.SESSIONS})
        self._url = redact(url)
        self._client = client
        self._heads = Heads()
        self._committer = Committer(
            client, self._heads, self._read_head, self._read_versions, way, timeout
        )
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, url: str, *, timeout: float = 30.0) -> Self:  # noqa: ASYNC109  # an option
        """Connect to the server or cluster that a URL names.

        Args:
            url: ``esdb://``, ``kurrentdb://`` or ``kdb://``, each also with ``+discover``, and
                the clients' own query parameters, such as ``?tls=false``.
            timeout: For how many seconds an append may take, and for how long one whose answer
                was lost is looked into.

        Raises:
            ConfigurationError: the URL or an option is wrong, no client is installed, or both.
            StoreUnavailableError: no server answers.
            NotSupportedError: this is not asyncio.
        """
        if not 0 < timeout < math.inf:
            message = f"timeout must be a positive number of seconds, not {timeout!r}"
            raise ConfigurationError(message)
        require_asyncio("EventStoreDB", "its clients do")
        return await open_to_end(lambda: cls._open(url, timeout))

    @classmethod
    async def _open(cls, url: str, timeout: float) -> Self:  # noqa: ASYNC109  # an option
        client = Client(load_library(), url, timeout)
        try:
            await client.connect()
            # Whoever cannot read shall learn it here, and not at the first append.
            found, _ = await client.read_all(
                None, 1, PAGE_BYTES, VISIBLE, by_stream=True, backwards=True
            )
            store = cls(url, client, await client.together(), timeout)
        except BaseException:
            await client.close()
            raise
        for event in found:
            store._heads.position = to_position(event.commit_position or 0)
        return store

    def __repr__(self) -> str:
        """Show the URL, without its password."""
        return f"<EventStoreDBEventStore: {self._url}>"

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """See `EventStore.subscribe`."""
        async with super().subscribe(after=after, types=types, prefix=prefix) as subscription:
            if self._listener is None:
                self._listener = asyncio.create_task(self._listen())
            yield subscription

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await self._committer.commit(commits, fully=self.has_hooks)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        with self._open_still():
            page = await self._page(stream, first, last, max_count, backwards=backwards)
        self._heads.note(stream, page.version, page.events[-1].position if page.events else 0)
        return page

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        with self._open_still():
            head = await self._read_last_position()
            if after >= head:
                return AllPage([], after, head)
            return await self._scan(after, head, max_count, types, prefix)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
        await self._client.close()

    # Streams.

    async def _page(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        limit = PAGE_EVENTS if max_count is None else min(max_count, PAGE_EVENTS)
        if last == MAX_INT and limit:
            # The end of the stream is in reach, perhaps, and tells the head by the way.
            revision = None if backwards or first == 1 else first - 1
            read = await self._client.read(stream, revision, limit, PAGE_BYTES, backwards=backwards)
            if read is None:
                return StreamPage([], 0)
            found, ended = read
            if found and (ended or backwards):
                head = found[0 if backwards else -1].stream_position + 1
                return StreamPage(_decode(found, first, last), head)
            if found:
                return StreamPage(_decode(found, first, last), await self._read_head(stream))
        head = await self._read_head(stream)
        last = min(last, head)
        limit = min(limit, last - first + 1)
        if limit <= 0:
            return StreamPage([], head)
        start = (last if backwards else first) - 1
        read = await self._client.read(stream, start, limit, PAGE_BYTES, backwards=backwards)
        return StreamPage(_decode(read[0] if read else [], first, last), head)

    async def _read_head(self, stream: str) -> int:
        """Ask for a stream's version."""
        read = await self._client.read(stream, None, 1, PAGE_BYTES, backwards=True)
        if read is None:
            version = 0
        elif read[0]:
            version = read[0][0].stream_position + 1
        else:
            # All its events have been truncated. Only a conflict tells where it stands.
            refused = await self._client.append(stream, MAX_INT - 1, [A_PROBE])
            version = refused.version if isinstance(refused, Refused) else 0
        self._heads.note(stream, version)
        return version

    async def _read_versions(self, stream: str, first: int, last: int) -> list[RecordedEvent]:
        """Read events of a stream, as far as they are there."""
        events: list[RecordedEvent] = []
        while first <= last:
            read = await self._client.read(
                stream, first - 1, min(last - first + 1, PAGE_EVENTS), PAGE_BYTES
            )
            if read is None or not read[0]:
                break
            found = _decode(read[0], first, last)
            events += found
            if len(found) < len(read[0]):
                break
            first = found[-1].version + 1
        return events

    # All streams.

    async def _read_last_position(self) -> int:
        """Ask for the position of the last event that is not the server's own."""
        found, _ = await self._client.read_all(
            None, 1, PAGE_BYTES, VISIBLE, by_stream=True, backwards=True
        )
        return to_position(found[0].commit_position or 0) if found else 0

    async def _scan(
        self,
        after: int,
        head: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        """Read a page. The server applies one filter; what is left of another is ours to do."""
        by_stream = types is None or prefix is not None
        if prefix is not None:
            pattern = prefix_pattern(prefix)
        elif types is not None:
            pattern = type_pattern(types)
        else:
            pattern = VISIBLE
        limit = min(max_count + 1, PAGE_EVENTS)  # one of them may be the one at `after`
        if types is not None:
            limit = max(limit, _SCAN)
        start = to_commit_position(after) if after else None
        found, ended = await self._client.read_all(
            start, limit, PAGE_BYTES, pattern, by_stream=by_stream
        )
        events: list[RecordedEvent] = []
        position = after
        for stored in found:
            place = to_position(stored.commit_position or 0)
            if place <= after:
                continue
            if len(events) == max_count:
                return AllPage(events, position, max(head, position))
            position = place
            if is_foreign(stored) or (prefix and not stored.stream_name.startswith(prefix)):
                continue
            event = decode(stored)
            if types is None or event.type in types:
                events.append(event)
        if ended and len(events) < max_count:
            position = max(position, head)
        return AllPage(events, position, max(head, position))

    # Live.

    async def _listen(self) -> None:
        """Let the server's own subscription wake ours, and take it up again when it is lost."""
        delay = 0.05
        # Not for ever: the older client may swallow the cancellation that is to end it.
        while self._closed is None:
            before = self.signal.count
            try:
                async with aclosing(self._client.follow(VISIBLE)) as signs:
                    async for _ in signs:
                        self.wake()
            except EventportError as exc:
                _log.debug("subscription to the server lost: %s", exc)
            # The first sign says that the server answers again.
            delay = 0.05 if self.signal.count > before else min(delay * 2, _MAX_RETRY_DELAY)
            await asyncio.sleep(delay)

    def _open_still(self) -> _ClosedMeanwhile:
        return _ClosedMeanwhile(self)


class _ClosedMeanwhile:
    """Says of an answer that did not come why that is, if the store has been closed meanwhile."""

    def __init__(self, store: EventStoreDBEventStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, StoreUnavailableError) and self._store._closed is not None:
            message = f"{self._store!r} was closed meanwhile"
            raise StoreClosedError(message) from exc


def _decode(found: Sequence[Stored], first: int, last: int) -> list[RecordedEvent]:
    """Decode what is in a range: of a truncated stream the server gives what comes next."""
    return [decode(event) for event in found if first <= event.stream_position + 1 <= last]
