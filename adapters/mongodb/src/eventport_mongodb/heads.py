"""What a process knows of the log without asking: where it ends, and where streams end."""

from __future__ import annotations

import time

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from eventport_mongodb.documents import end_of, head_of
from eventport_mongodb.driver import Document


MAX_STREAMS: Final = 20_000
"""How many streams' heads are kept; those that were used last."""


class Head(NamedTuple):
    """Where a stream ends. Of two heads of one stream the later one is the larger."""

    version: int
    """The version of its last event; 0 if it does not exist."""
    at: int
    """The time of its last event, in microseconds since 1970."""


NOWHERE: Final = Head(0, 0)
"""The head of a stream that does not exist."""


def head_in(document: Document | None) -> Head:
    """Return the head of the stream whose last document, or its outline, this is."""
    return NOWHERE if document is None else Head(head_of(document), document.get("at", 0))


class Heads:
    """The end of the log, and the heads of some streams, none older than that end.

    Knowledge only grows, since nothing is ever deleted: of two heads the higher one is true.
    """

    def __init__(self) -> None:
        self.last: int = 0
        """The `_id` of the last known document; 0 if the log is empty or unknown."""
        self.end: int | None = None
        """The position of the last known event; None if it is not known."""
        self._streams: dict[str, Head] = {}

    def __len__(self) -> int:
        """Return how many streams are known."""
        return len(self._streams)

    def get(self, stream: str) -> Head | None:
        """Return a stream's head, if it is known."""
        head = self._streams.pop(stream, None)
        if head is not None:
            self._streams[stream] = head  # it is the one that was used last, now
        return head

    def version(self, stream: str) -> int:
        """Return a stream's version as far as it is known; 0 if it is not."""
        return (self.get(stream) or NOWHERE).version

    def learn(self, stream: str, head: Head) -> None:
        """Keep a stream's head that was read, or made."""
        self._streams[stream] = max(head, self._streams.pop(stream, NOWHERE))

    def note(self, stream: str, head: Head, end: int | None) -> None:
        """Keep a stream's head that was read when this was the end of the log.

        If that has moved on since, the stream may have done so, too, and nobody would notice.
        """
        if end is not None and (end == self.end or stream in self._streams):
            self.learn(stream, head)

    def follow(self, documents: Iterable[Document]) -> None:
        """Go on to a later end of the log, over all the documents between."""
        for document in documents:
            stream = document["stream"]
            if stream in self._streams:
                self.learn(stream, head_in(document))
            self.last, self.end = document["_id"], end_of(document)

    def restart(self, last: Document | None) -> None:
        """Know nothing but the last document of the log."""
        self._streams.clear()
        self.last = 0 if last is None else last["_id"]
        self.end = 0 if last is None else end_of(last)

    def forget(self) -> None:
        """Know nothing."""
        self._streams.clear()
        self.last, self.end = 0, None

    def trim(self) -> None:
        """Drop what was not used for long, if there is too much."""
        while len(self._streams) > MAX_STREAMS:
            del self._streams[next(iter(self._streams))]


class PlannedHeads:
    """The heads of streams as they will be after what is planned.

    Args:
        heads: The heads as they are.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._moved: dict[str, Head] = {}
        self._now = time.time_ns() // 1_000

    def version(self, stream: str) -> int:
        """Return a stream's version."""
        return self._get(stream).version

    def time_for(self, streams: Iterable[str]) -> int:
        """Return the time for new events: now, but never before that of the last event."""
        return max(self._now, *(self._get(stream).at for stream in streams))

    def move(self, documents: Iterable[Document]) -> None:
        """Go on over documents that are planned."""
        for document in documents:
            self._moved[document["stream"]] = head_in(document)

    def have_moved(self, streams: AbstractSet[str]) -> bool:
        """Return whether something is planned for any of these streams."""
        return not streams.isdisjoint(self._moved)

    def _get(self, stream: str) -> Head:
        return self._moved.get(stream) or self._heads.get(stream) or NOWHERE
