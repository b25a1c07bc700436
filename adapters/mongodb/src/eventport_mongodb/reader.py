"""Reading pages: which documents hold the events asked for, and which events of them are meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from eventport import RecordedEvent, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    NameQuery,
    Seen,
    StreamPage,
    StreamQuery,
    utc_from_microseconds,
)

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents import decode_document, end_of, head_of
from eventport_mongodb.driver import Document
from eventport_mongodb.heads import Heads, head_in
from eventport_mongodb.log import Log
from eventport_mongodb.matching import condition, matching


SCAN: Final = 10_000
"""How many positions a filtered page scans, so that none takes long."""

_PAGE: Final = 500
"""How many documents one page of what matches a query has at most."""


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
        self._ask = asker.once
        self._last = 0
        """The `_id` of the last document that was seen: the search for later ones begins here."""

    async def read_stream(self, query: StreamQuery) -> StreamPage:
        """See `Engine.read_stream`."""
        if query.is_whole:
            return await self._read_whole(query.stream)
        # The head bounds the events, so both are of one moment.
        head = await self._head(query.stream)
        wanted = query.clip(head)
        if not wanted:
            return StreamPage([], head)
        first, last = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        documents, _ = await self._ask(
            self._log.of_stream, query.stream, first, last, backwards=query.backwards
        )
        events = [event for event in _decode(documents) if event.version in wanted]
        if query.backwards:
            events.sort(key=lambda event: event.version, reverse=True)
        return StreamPage(events, head)

    async def read_all(self, query: AllQuery) -> AllPage:
        """See `Engine.read_all`."""
        head = await self._end()
        if query.after >= head:
            return AllPage([], query.after, head)
        until = min(head, query.after + (SCAN if query.is_filtered else query.max_count))
        documents, cut = await self._ask(
            self._log.of_all, query.after + 1, until, query.types, query.prefix, query.stream
        )
        if cut:
            until = min(until, end_of(documents[-1]))
        events = [
            event
            for event in _decode(documents)
            if query.after < event.position <= until
            and query.matches(event.stream, event.type, event.tags)
        ]
        if len(events) > query.max_count or (len(events) == query.max_count and query.is_filtered):
            events = events[: query.max_count]
            until = events[-1].position
        return AllPage(events, until, head)

    async def query(self, query: MatchQuery) -> MatchPage:
        """See `Queries.query`: a position is claimed after those below it, so all was seen."""
        head = await self._end()
        after, until = query.after, head if query.until is None else min(query.until, head)
        limit = _PAGE if query.max_count is None else min(_PAGE, query.max_count + 1)
        events: list[RecordedEvent] = []
        more = after < until and query.max_count != 0
        while more and not events:
            documents = await self._ask(
                self._log.matching,
                condition(query.query),
                after,
                until,
                limit,
                backwards=query.backwards,
            )
            for document in documents:
                found = matching(document, query.query, after, until)
                events += found[::-1] if query.backwards else found
            more = len(documents) == limit
            if more and query.backwards:
                until = documents[-1]["_id"] - 1
            elif more:
                after = end_of(documents[-1])
        if query.max_count is not None and len(events) >= query.max_count:
            events, more = events[: query.max_count], False
        return MatchPage(events, head, Seen(head), more=more)

    async def read_streams(self, streams: Sequence[str]) -> dict[str, StreamPage]:
        """See `ReadsMany.read_streams`."""
        documents, cut = await self._ask(self._log.of_streams, streams)
        found = {name: list(some) for name, some in groupby(documents, key=itemgetter("stream"))}
        last = documents[-1]["stream"] if cut else ""
        pages: dict[str, StreamPage] = {}
        for name in streams:
            if name > last and name in found:
                pages[name] = StreamPage(_decode(found[name]), head_of(found[name][-1]))
            elif name > last:
                pages[name] = StreamPage([], 0)
        if not pages:  # the last name alone fills the page
            pages[last] = StreamPage(_decode(found[last]), await self._head(last))
        return pages

    async def read_heads(self, streams: Sequence[str]) -> dict[str, int]:
        """See `ReadsHeads.read_heads`: what is found, the writer need not look for again."""
        end = self._heads.end
        heads = await self._ask(self._log.heads, streams)
        for stream, head in heads.items():
            self._heads.note(stream, head, end)
        return {stream: head.version for stream, head in heads.items()}

    async def list_streams(self, query: NameQuery) -> list[StreamInfo]:
        """See `Catalogues.list_streams`."""
        names = await self._ask(self._log.names, query.first, query.end, query.max_count)
        found = await self._ask(self._log.last_of, names) if names else []
        return [
            StreamInfo(one["stream"], head_of(one), end_of(one), utc_from_microseconds(one["at"]))
            for one in found
        ]

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
