"""What a process knows of the log without asking: where it ends, and where streams end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eventport_mongodb.documents import end_of, head_of
from eventport_mongodb.driver import Document


MAX_STREAMS: Final = 20_000
"""How many streams' heads are kept; those that were used last."""


class Heads:
    """The end of the log, and the heads of some streams, none older than that end.

    Knowledge only grows, since nothing is ever deleted: of two heads the higher one is true.
    """

    def __init__(self) -> None:
        self.last: int = 0
        """The `_id` of the last known document; 0 if the log is empty or unknown."""
        self.end: int | None = None
        """The position of the last known event; None if it is not known."""
        self._versions: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many streams are known."""
        return len(self._versions)

    def get(self, stream: str) -> int | None:
        """Return a stream's version, if it is known."""
        version = self._versions.pop(stream, None)
        if version is not None:
            self._versions[stream] = version  # it is the one that was used last, now
        return version

    def learn(self, stream: str, version: int) -> None:
        """Keep a stream's version that was read, or made."""
        self._versions[stream] = max(version, self._versions.pop(stream, 0))

    def note(self, stream: str, version: int, end: int | None) -> None:
        """Keep a stream's version that was read when this was the end of the log.

        If that has moved on since, the stream may have done so, too, and nobody would notice.
        """
        if end is not None and (end == self.end or stream in self._versions):
            self.learn(stream, version)

    def follow(self, documents: Iterable[Document]) -> None:
        """Go on to a later end of the log, over all the documents between."""
        for document in documents:
            stream = document["stream"]
            if stream in self._versions:
                self.learn(stream, head_of(document))
            self.last, self.end = document["_id"], end_of(document)

    def restart(self, last: Document | None) -> None:
        """Know nothing but the last document of the log."""
        self._versions.clear()
        self.last = 0 if last is None else last["_id"]
        self.end = 0 if last is None else end_of(last)

    def forget(self) -> None:
        """Know nothing."""
        self._versions.clear()
        self.last, self.end = 0, None

    def trim(self) -> None:
        """Drop what was not used for long, if there is too much."""
        while len(self._versions) > MAX_STREAMS:
            del self._versions[next(iter(self._versions))]
