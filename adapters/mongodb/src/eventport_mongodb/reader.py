"""Reading pages: which documents hold the events asked for, and which of those are meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eventport.adapter import AllPage, StreamPage
from eventport.events import RecordedEvent
from eventport.validation import MAX_INT

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents import decode_document, end_of
from eventport_mongodb.driver import Document
from eventport_mongodb.heads import Heads, head_in
from eventport_mongodb.log import Log


SCAN: Final = 10_000
"""How many positions a filtered page looks at, so that none takes long."""


class Reader:
    """Reads events.

    Args:
        log: Where to read.
        heads: What is known of it; what reading shows is added.
        asker: Asks the server.
    """

    def __init__(self, log: Log, heads: Heads, asker: Asker) -> None:
        self._log = log
        self._heads = heads
        self._ask = asker.ask
        self._last = 0
        """The `_id` of the last document that was seen: looking for later ones begins here."""

    async def read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        """See `BaseEventStore._read_stream`."""
        if first == 1 and last == MAX_INT and max_count is None and not backwards:
            return await self._read_whole(stream)
        # The head bounds the events, so both are of one moment.
        head = await self._head(stream)
        last = min(last, head)
        if max_count is not None:
            if backwards:
                first = max(first, last - max_count + 1)
            else:
                last = min(last, first + max_count - 1)
        if first > last:
            return StreamPage([], head)
        documents, _ = await self._ask(
            self._log.of_stream, stream, first, last, backwards=backwards
        )
        events = [event for event in _decode(documents) if first <= event.version <= last]
        if backwards:
            events.sort(key=lambda event: event.version, reverse=True)
        return StreamPage(events, head)

    async def read_range(self, stream: str, first: int, last: int) -> StreamPage:
        """Read the events of a stream from a version to a version."""
        return await self.read_stream(stream, first, last, None, backwards=False)

    async def read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        """See `BaseEventStore._read_all`."""
        head = await self._end()
        if after >= head or max_count == 0:
            return AllPage([], after, head)
        filtered = types is not None or prefix is not None
        until = min(head, after + (SCAN if filtered else max_count))
        documents, cut = await self._ask(self._log.of_all, after + 1, until, types, prefix)
        if cut:
            until = min(until, end_of(documents[-1]))
        events = [
            event
            for event in _decode(documents)
            if after < event.position <= until
            and (types is None or event.type in types)
            and (prefix is None or event.stream.startswith(prefix))
        ]
        if len(events) > max_count or (len(events) == max_count and filtered):
            events = events[:max_count]
            until = events[-1].position
        return AllPage(events, until, head)

    async def _read_whole(self, stream: str) -> StreamPage:
        """Read a stream from end to end: the last event then is the head."""
        end = self._heads.end
        documents, cut = await self._ask(self._log.of_stream, stream, 1, None)
        events = _decode(documents)
        if cut:
            return StreamPage(events, await self._head(stream))
        head = head_in(documents[-1] if documents else None)
        self._heads.note(stream, head, end)
        return StreamPage(events, head.version)

    async def _head(self, stream: str) -> int:
        end = self._heads.end
        head = await self._ask(self._log.head, stream)
        self._heads.note(stream, head, end)
        return head.version

    async def _end(self) -> int:
        last = await self._ask(self._log.last, self._last)
        if last is None:
            return 0
        self._last = last["_id"]
        return end_of(last)


def _decode(documents: Iterable[Document]) -> list[RecordedEvent]:
    return [event for document in documents for event in decode_document(document)]
