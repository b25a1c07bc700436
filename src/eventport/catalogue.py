"""What streams there are: their categories, all of them one by one, and how many."""

from __future__ import annotations

import re

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

from msgspec import Struct

from eventport.protocols import EventStore
from eventport.results import StreamInfo


_PAGE: Final = 1_000
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID: Final = re.compile(rf"-(?:{_UUID}|[^-]*)\Z", re.IGNORECASE)
_GROUP: Final = re.compile("[^-]*-")
_UUID_START: Final = re.compile("[0-9a-f]{8}-", re.IGNORECASE)


class Totals(Struct, frozen=True):
    """How much there is in some streams."""

    streams: int
    """How many streams."""
    events: int
    """The sum of their versions: the number of events, unless some of them were deleted."""
    categories: dict[str, tuple[int, int]]
    """The same two numbers for each category, the largest first; ``""`` has those without one."""


def category_of(stream: str) -> str:
    """Return the category of a stream: what its name has before the id.

    The id is a UUID at the end of the name, or else what comes after the last ``-``. So the
    category of ``order-7`` is ``order``, that of ``order-item-7`` is ``order-item``, and a name
    without ``-`` has none, which is ``""``. For ids with other dashes, look for a prefix.
    """
    found = _ID.search(stream)
    return stream[: found.start()] if found else ""


async def iterate_streams(
    store: EventStore, *, prefix: str | None = None, category: str | None = None
) -> AsyncGenerator[StreamInfo, None]:
    """Go through the streams of a store by name, page by page, as `EventStore.streams` does.

    Raises:
        NotSupportedError: the backend has no `Capability.CATALOGUE`.
    """
    after: str | None = None
    while True:
        page = await store.streams(prefix=prefix, category=category, after=after, max_count=_PAGE)
        for stream in page:
            yield stream
        if len(page) < _PAGE:
            return
        after = page[-1].stream


async def count_streams(
    store: EventStore, *, prefix: str | None = None, category: str | None = None
) -> Totals:
    """Count streams and their events. It looks at each stream once, and at no event.

    Raises:
        NotSupportedError: the backend has no `Capability.CATALOGUE`.
    """
    streams, events = Counter[str](), Counter[str]()
    async for one in iterate_streams(store, prefix=prefix, category=category):
        of = category_of(one.stream)
        streams[of] += 1
        events[of] += one.version
    categories = {name: (count, events[name]) for name, count in streams.most_common()}
    return Totals(streams.total(), events.total(), categories)


def is_of_category(stream: str, category: str | None) -> bool:
    """Return whether a stream is of a category; None stands for all of them."""
    return category is None or category_of(stream) == category


def ends_category(stream: str, category: str) -> str | None:
    """Return how the name of a stream begins, if no name that begins so is of a category.

    ``order-item-`` is the beginning of no stream of ``order``, so a search can leave them all out.
    """
    start = len(category) + 1
    group = _GROUP.match(stream, start)
    if group is None or _UUID_START.match(stream, start):
        return None
    return stream[: group.end()]
