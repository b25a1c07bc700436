"""`eventport read`: the events of one stream, or some of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from msgspec import Struct

from eventport.boundaries import Query
from eventport.errors import EventportError
from eventport.events import RecordedEvent
from eventport.protocols import EventStore


class NoStreamError(EventportError):
    """The stream to be shown does not exist."""


class Versions(Struct, frozen=True):
    """Which versions, and in which order."""

    first: int
    last: int | None
    backwards: bool


async def show_stream(
    store: EventStore,
    stream: str,
    versions: Versions,
    chosen: Query | None,
    max_count: int | None,
    show: Callable[[RecordedEvent], object],
) -> None:
    """Show events of a stream.

    Args:
        store: Where it is.
        stream: Its name.
        versions: Which versions.
        chosen: Only events that match this; None for all.
        max_count: At most this many events.
        show: Shows one.

    Raises:
        NoStreamError: there is no such stream.
    """
    if not (await store.read(stream, max_count=0)).exists:
        message = f"there is no stream {stream!r}"
        raise NoStreamError(message)
    left = max_count
    async with aclosing(
        store.iterate(
            stream,
            from_version=versions.first,
            to_version=versions.last,
            backwards=versions.backwards,
        )
    ) as events:
        async for event in events:
            if left == 0:
                break
            if chosen is None or chosen.covers(event.type, event.tags):
                left = left and left - 1
                show(event)
