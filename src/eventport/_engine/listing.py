"""Listing streams by name: what is asked of an engine, page by page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from eventport.catalogue import ends_category, is_of_category
from eventport.protocols import Capability
from eventport.results import StreamInfo
from eventport.validation import TOOLKIT_STREAMS, check_int, check_key, check_prefix


PAGE_STREAMS: Final = 1_000
"""How many streams an engine is asked for at once."""


class NameQuery(Struct, frozen=True):
    """Streams in a range of names. Names are compared by code points, as UTF-8 bytes are."""

    first: str = ""
    """The lowest name wanted, inclusive."""
    end: str | None = None
    """The names wanted are below this one; None if there is no such bound."""
    max_count: int = PAGE_STREAMS
    """At most this many streams; at least 1."""

    def clip(self, prefix: str) -> NameQuery | None:
        """Return the part of the range that begins with a prefix; None if there is none."""
        end = end_of_prefix(prefix)
        if end is None or (self.end is not None and self.end < end):
            end = self.end
        first = max(self.first, prefix)
        return None if end is not None and first >= end else replace(self, first=first, end=end)

    def without(self, prefix: str) -> list[NameQuery]:
        """Return the parts of the range whose names do not begin with a prefix."""
        after = end_of_prefix(prefix) or prefix
        below = prefix if self.end is None else min(self.end, prefix)
        parts = [
            replace(self, end=below),
            replace(self, first=max(self.first, after)),
        ]
        return [part for part in parts if part.end is None or part.first < part.end]


class Lister(ABC):
    """`streams` of a store, on top of an engine's pages of names."""

    @abstractmethod
    async def _names(self, query: NameQuery) -> Sequence[StreamInfo]:
        """Fetch a page, as `Catalogues.list_streams` does."""

    @abstractmethod
    def _check_open(self, cause: Exception | None = None) -> None:
        """Raise if the store has been closed."""

    @abstractmethod
    def _require(self, capability: Capability) -> None:
        """Raise if the engine does not have a capability."""

    async def streams(
        self,
        *,
        prefix: str | None = None,
        category: str | None = None,
        after: str | None = None,
        max_count: int = 1000,
    ) -> list[StreamInfo]:
        """See `EventStore.streams`."""
        prefix = check_prefix(prefix) or ""
        category = None if category is None else check_key(category, "category")
        after = None if after is None else check_key(after, "after")
        count = check_int("max_count", max_count)
        self._check_open()
        self._require(Capability.CATALOGUE)
        found: list[StreamInfo] = []
        size = min(count, PAGE_STREAMS)
        for part in _parts(NameQuery(max_count=size), prefix, category, after):
            left: NameQuery | None = part
            while left is not None and len(found) < count:
                page = await self._names(left)
                found += (one for one in page if is_of_category(one.stream, category))
                left = None if len(page) < left.max_count else _rest(left, page[-1], category)
        return found[:count]


def end_of_prefix(prefix: str) -> str | None:
    """Return the lowest text above all that begins with a prefix; None if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index])
        if code < 0x10FFFF:
            # Between these two are the surrogates, which no text has.
            return prefix[:index] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


def _parts(
    every: NameQuery, prefix: str, category: str | None, after: str | None
) -> list[NameQuery]:
    """Return the ranges of names to look at, in order."""
    wanted: NameQuery | None = every if after is None else replace(every, first=_next_name(after))
    for begin in (prefix, category and f"{category}-"):
        wanted = wanted.clip(begin) if wanted and begin else wanted
    if wanted is None:
        return []
    asked_for = any((text or "").startswith(TOOLKIT_STREAMS) for text in (prefix, category))
    return [wanted] if asked_for else wanted.without(TOOLKIT_STREAMS)


def _rest(query: NameQuery, last: StreamInfo, category: str | None) -> NameQuery | None:
    """Return what is left of a range after a page; None if nothing is."""
    first = _next_name(last.stream)
    if category is not None and (group := ends_category(last.stream, category)):
        first = end_of_prefix(group) or first  # all names that begin so are of other categories
    if query.end is not None and first >= query.end:
        return None
    return replace(query, first=first)


def _next_name(name: str) -> str:
    """Return the lowest name above another one: no name has a control character."""
    return name + " "
