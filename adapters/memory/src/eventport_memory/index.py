"""Which positions have a type or a tag, so that a query need not look at all events."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from heapq import merge
from itertools import groupby

from eventport import Match, Query


class Index:
    """The positions of events, in order, by type and by tag."""

    def __init__(self) -> None:
        self._types: defaultdict[str, list[int]] = defaultdict(list)
        self._tags: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, position: int, type_: str, tags: AbstractSet[str]) -> None:
        """Add an event, which is the newest one."""
        self._types[type_].append(position)
        for tag in tags:
            self._tags[tag].append(position)

    def candidates(
        self, query: Query, after: int, until: int, *, backwards: bool = False
    ) -> Iterator[int]:
        """Yield, in order, the positions in a range of events that may match a query."""
        if query.matches is None:
            yield from range(until, after, -1) if backwards else range(after + 1, until + 1)
            return
        parts = [
            _between(positions, after, until, backwards=backwards)
            for match in query.matches
            for positions in self._lists(match)
        ]
        for position, _ in groupby(merge(*parts, reverse=backwards)):
            yield position

    def _lists(self, match: Match) -> list[Sequence[int]]:
        if match.tags:
            return [min((self._tags.get(tag, ()) for tag in match.tags), key=len)]
        return [self._types.get(type_, ()) for type_ in match.types]


def _between(positions: Sequence[int], after: int, until: int, *, backwards: bool) -> Iterator[int]:
    low, high = bisect_right(positions, after), bisect_left(positions, until + 1)
    indices = range(high - 1, low - 1, -1) if backwards else range(low, high)
    return (positions[index] for index in indices)
