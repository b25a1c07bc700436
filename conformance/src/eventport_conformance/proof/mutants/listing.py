"""Mutants that list streams wrongly."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

import fnmatch

from typing import Any
from unicodedata import normalize

from msgspec.structs import replace

from eventport import RecordedEvent, StreamInfo

from eventport_conformance.proof.mutants.base import mutant
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("CAT-02", "CAT-03")
class ListedByCase(ReferenceStore):
    """It sorts as a dictionary does: upper and lower case beside each other."""

    def known_streams(self) -> list[str]:
        return sorted(super().known_streams(), key=lambda name: (name.casefold(), name))


@mutant("CAT-02")
class ListedByUtf16(ReferenceStore):
    """It sorts by the units of UTF-16, in which emoji come before other letters."""

    def known_streams(self) -> list[str]:
        return sorted(
            super().known_streams(), key=lambda name: name.encode("utf-16-be", "surrogatepass")
        )


@mutant("CAT-02", "CAT-08")
class ListedByAge(ReferenceStore):
    """It lists streams in the order in which they were made."""

    def known_streams(self) -> list[str]:
        return list(dict.fromkeys(event.stream for event in self.database.log))


@mutant("CAT-05")
class PrefixesAsPatterns(ReferenceStore):
    """It takes some characters of a prefix for others, as SQL's LIKE does."""

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        pattern = prefix.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
        pattern = pattern.replace("%", "*").replace("_", "?") + "*"
        return super().is_listed(name, "", category) and fnmatch.fnmatchcase(name, pattern)


@mutant("CAT-05")
class PrefixesNormalised(ReferenceStore):
    """It takes a prefix for equal to what only looks like it."""

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        return super().is_listed(normalize("NFC", name), normalize("NFC", prefix), category)


@mutant("CAT-06")
class CategoriesAsPrefixes(ReferenceStore):
    """It takes a category for the beginning of a name."""

    def is_of(self, name: str, category: str | None) -> bool:
        return category is None or name.startswith(f"{category}-")


@mutant("CAT-06")
class CategoriesEndAtTheFirstDash(ReferenceStore):
    """It takes what comes before the first dash for the category."""

    def is_of(self, name: str, category: str | None) -> bool:
        return category is None or ("-" in name and name.partition("-")[0] == category)


@mutant("CAT-06")
class CategoriesEndAtTheLastDash(ReferenceStore):
    """It knows no UUIDs."""

    def is_of(self, name: str, category: str | None) -> bool:
        return category is None or ("-" in name and name.rpartition("-")[0] == category)


@mutant("CAT-07")
class ToolkitListed(ReferenceStore):
    """It lists the toolkit's streams among those of programs."""

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        return name.startswith(prefix) and self.is_of(name, category)


@mutant("CAT-07")
class ToolkitNeverListed(ReferenceStore):
    """It never lists the toolkit's streams."""

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        return super().is_listed(name, prefix, category) and not name.startswith("eventport/")


@mutant("CAT-03", "CAT-04")
class AfterIncluded(ReferenceStore):
    """It gives the stream that is named by `after`, too."""

    async def streams(self, *, after: str | None = None, **asked: Any) -> list[StreamInfo]:
        found = await super().streams(after=after, **asked)
        if after in self.known_streams() and asked.get("max_count", 1000):
            return (
                [self.describe(after), *found][: asked.get("max_count", 1000)] if after else found
            )
        return found


@mutant("CAT-08")
class PagesByOffset(ReferenceStore):
    """It remembers how many streams it has given, and not which."""

    given = 0

    async def streams(self, *, after: str | None = None, **asked: Any) -> list[StreamInfo]:
        self.given = self.given if after else 0
        asked["max_count"], count = 10**6, asked.get("max_count", 1000)
        found = (await super().streams(**asked))[self.given :][:count]
        self.given += len(found)
        return found


@mutant("CAT-09")
class HundredStreamsListed(ReferenceStore):
    """It lists a hundred streams at most, whatever it is asked for."""

    async def streams(self, *, max_count: int = 1000, **asked: Any) -> list[StreamInfo]:
        return (await super().streams(max_count=max_count, **asked))[:100]


@mutant("CAT-01")
class FirstEventsListed(ReferenceStore):
    """It says when a stream began, and not when it was written last."""

    def describe(self, stream: str) -> StreamInfo:
        first = self.database.streams[stream][0]
        return replace(super().describe(stream), position=first.position)


@mutant("CAT-11")
class ListsRemembered(ReferenceStore):
    """It keeps what a list says of a stream."""

    def describe(self, stream: str) -> StreamInfo:
        kept: dict[str, StreamInfo] = self.__dict__.setdefault("kept", {})
        return kept.setdefault(stream, super().describe(stream))


@mutant("CAT-13")
class DeletedStreamsListed(ReferenceStore):
    """It lists streams that were deleted."""

    def is_there(self, event: RecordedEvent) -> bool:
        return bool(event.version)


@mutant("CAT-10")
class CountsUnchecked(ReferenceStore):
    """It takes any count for the size of a page."""

    async def streams(self, *, max_count: Any = 1000, **asked: Any) -> list[StreamInfo]:
        return (await super().streams(max_count=10**6, **asked))[: int(max_count or 0)]


@mutant("CAT-14")
class ListedAfterClosing(ReferenceStore):
    """It lists streams after it was closed."""

    async def streams(self, **asked: Any) -> list[StreamInfo]:
        closed, self.closed = self.closed, False
        try:
            return await super().streams(**asked)
        finally:
            self.closed = closed


@mutant("CAT-05")
class LastCharacterWithoutEnd(ReferenceStore):
    """It lists all streams after a prefix whose last character has none above it."""

    def is_listed(self, name: str, prefix: str, category: str | None) -> bool:
        if prefix.endswith("\U0010ffff") and name >= prefix:
            return super().is_listed(name, "", category)
        return super().is_listed(name, prefix, category)


@mutant("CAN-20")
class ListsAtOnce(ReferenceStore):
    """It lists its streams without ever giving others a turn."""

    is_listing = False

    async def turn(self) -> None:
        if not self.is_listing:
            await super().turn()

    async def streams(self, **asked: Any) -> list[StreamInfo]:
        self.check_open()
        self.is_listing = True
        try:
            return await super().streams(**asked)
        finally:
            self.is_listing = False
