"""What streams there are: their categories, all of them one by one, and how many."""

from __future__ import annotations

import re

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.json import Encoder

from eventport.events import RecordedEvent
from eventport.protocols import EventStore
from eventport.results import StreamInfo


_encode: Final = Encoder().encode
_PAGE: Final = 1_000
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID: Final = re.compile(rf"-(?:{_UUID}|[^-])*\Z", re.IGNORECASE)
_GROUP: Final = re.compile("[^-]*-")
_MAY_BE_UUID: Final = re.compile("[0-9a-f]{8}-\\Z", re.IGNORECASE)


class Totals(Struct, frozen=True):
    """How much there is in some streams."""

    streams: int
    """How many streams."""
    events: int
    """The sum of their versions: the number of events, unless some of them were deleted."""
    categories: dict[str, tuple[int, int]]
    """The same two numbers for each category, the largest first; ``""`` has those without one."""


class StreamSize(Struct, frozen=True):
    """How much is in a stream."""

    stream: str
    """The stream's name."""
    events: int
    """How many events are there."""
    bytes: int
    """How many bytes their data and metadata have, as JSON; a backend needs more, or less."""


@runtime_checkable
class HeadReader(Protocol):
    """A store or a session that finds where many streams end, with as few round trips as it can.

    Every store over an engine does; one that is written without that may lack it.
    """

    async def heads(self, streams: Iterable[str]) -> dict[str, int]:
        """Return the version of each stream's last event; 0 for a stream that does not exist.

        It is `ReadResult.version` of a read of the stream. A session pins the streams, as if it
        had read them. The heads of different streams need not be of one moment.

        Args:
            streams: Their names. Each comes once in the result, in this order.
        """
        ...


def category_of(stream: str) -> str:
    """Return the category of a stream: what its name has before the id.

    The id is all after a ``-`` that has no other ``-`` in it than those of UUIDs. So the category
    of ``order-7`` is ``order``, that of ``order-item-7`` is ``order-item``, and a name without
    ``-`` has none, which is ``""``. For ids with other dashes, look for a prefix.
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


async def measure_streams(
    store: EventStore, *, progress: Callable[[int], object] = lambda _: None
) -> list[StreamSize]:
    """Add up the bytes of the events of each stream, the largest first. It reads all events.

    The toolkit's own streams are among them. It takes memory for each stream.

    Args:
        store: The store.
        progress: Is called with 1 after each event.

    Raises:
        NotSupportedError: the backend has no `Capability.GLOBAL_ORDER`.
    """
    events, sizes = Counter[str](), Counter[str]()
    async with aclosing(store.iterate_all()) as found:
        async for event in found:
            events[event.stream] += 1
            sizes[event.stream] += bytes_of(event)
            progress(1)
    return [StreamSize(stream, events[stream], size) for stream, size in sizes.most_common()]


def bytes_of(event: RecordedEvent) -> int:
    """Return how many bytes the data and the metadata of an event have, as JSON."""
    data = event.data if isinstance(event.data, bytes) else _encode(event.data)
    return len(data) + len(_encode(event.metadata))


def is_of_category(stream: str, category: str | None) -> bool:
    """Return whether a stream is of a category; None stands for all of them."""
    return category is None or category_of(stream) == category


def ends_category(stream: str, category: str) -> str | None:
    """Return how the name of a stream begins, if no name that begins so is of a category.

    ``order-item-`` is the beginning of no stream of ``order``, so a search can leave them all out.
    """
    start = len(category) + 1
    group = _GROUP.match(stream, start)
    if group is None or _MAY_BE_UUID.search(group[0]):
        return None
    return stream[: group.end()]
