"""What a store has to do, as a small and slow model that is easy to believe."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from eventport import AppendResult, ConcurrencyError, Expectation, NewEvent
from eventport.expectations import exact_version, holds


class Model:
    """The streams of a store, and the order of its events."""

    def __init__(self) -> None:
        self.streams: dict[str, list[NewEvent]] = {}
        self.order: list[tuple[str, int]] = []
        """Stream and version of each event, in global order."""

    def head(self, stream: str) -> int:
        """Return a stream's version."""
        return len(self.streams.get(stream, ()))

    def append(
        self, stream: str, events: Sequence[NewEvent], expected: Expectation
    ) -> AppendResult | ConcurrencyError:
        """Append, and return what a store returns or raises; positions are None."""
        head = self.head(stream)
        if not holds(expected, head):
            before = exact_version(expected)
            if before is not None and events:
                last = before + len(events)
                stored = self.streams.get(stream, [])[before:last]
                if [event.id for event in stored] == [event.id for event in events]:
                    return AppendResult(last, None, created=before == 0, deduplicated=True)
            return ConcurrencyError(stream, expected, head)
        if events:
            self.streams.setdefault(stream, []).extend(deepcopy(list(events)))
        self.order += [(stream, head + n) for n in range(1, len(events) + 1)]
        created = head == 0 and bool(events)
        return AppendResult(head + len(events), None, created=created, deduplicated=False)

    def read(
        self,
        stream: str,
        first: int = 1,
        last: int | None = None,
        count: int | None = None,
        *,
        backwards: bool = False,
    ) -> list[tuple[int, NewEvent]]:
        """Return versions and events of a range."""
        found = [
            (version, event)
            for version, event in enumerate(self.streams.get(stream, ()), 1)
            if version >= first and (last is None or version <= last)
        ]
        return (found[::-1] if backwards else found)[:count]
