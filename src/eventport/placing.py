"""Appending events that have their versions already, as often as it takes: imports and copies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from eventport._concurrency.gathering import gather
from eventport.catalogue import HeadReader
from eventport.conflicts import run_in_session
from eventport.errors import EventportError, PayloadTooLargeError
from eventport.events import NewEvent
from eventport.protocols import Capability, EventStore, Streams


MAX_BATCH_EVENTS: Final = 1_000
"""How many events one session commits, at most."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of events one session commits, unless a single event is larger."""

READERS: Final = 16
"""How many streams are read at the same time."""


class Placed(Protocol):
    """An event and the place that it has to have."""

    @property
    def stream(self) -> str:
        """Its stream."""
        ...

    @property
    def version(self) -> int:
        """Its version, from 1."""
        ...

    @property
    def event(self) -> NewEvent:
        """What to append."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        ...


P = TypeVar("P", bound=Placed)

Refuse: TypeAlias = Callable[[P, int], EventportError]
"""Makes the error for an event that has no place, from the version that its stream has.

If that is lower than the version before the event's, events are missing before it; otherwise the
stream holds another event at its version.
"""


class Filling(Generic[P]):
    """The batch that is being filled."""

    def __init__(self) -> None:
        self.batch: list[P] = []
        """What is in it."""
        self._size = 0

    def add(self, event: P) -> Sequence[P] | None:
        """Add an event; if it does not fit, begin a new batch with it and return the full one."""
        self._size += event.size
        batch = self.batch
        if not batch or (len(batch) < MAX_BATCH_EVENTS and self._size <= MAX_BATCH_BYTES):
            batch.append(event)
            return None
        self.batch, self._size = [event], event.size
        return batch


def batches(events: Iterable[P]) -> Iterator[Sequence[P]]:
    """Split events into those that are committed together."""
    filling = Filling[P]()
    for event in events:
        if full := filling.add(event):
            yield full
    if filling.batch:
        yield filling.batch


async def write_batch(store: EventStore, batch: Sequence[P], refuse: Refuse[P]) -> list[P]:
    """Append the events of a batch that are not there yet, in their order.

    They are committed together if the store can do that; otherwise each run of neighbours of the
    same stream is a commit. What is too large for the backend is divided. Each append expects the
    version that the event gives, so a batch can be written again.

    Args:
        store: Where to write.
        batch: What.
        refuse: Makes the error for an event that has no place; nothing of its commit is written.

    Returns:
        The events that were written.

    Raises:
        PayloadTooLargeError: the backend refuses a single event, which is named.
    """
    if Capability.SESSIONS not in store.capabilities:
        new = await _missing(batch, refuse, store)
        for run in _runs(new):
            await _divided(partial(_append, store), run)
        return new

    async def work(part: Sequence[P], session: Streams) -> list[P]:
        new = await _missing(part, refuse, session)
        for run in _runs(new):
            await _append(session, run)
        return new

    async def commit(part: Sequence[P]) -> list[P]:
        return await run_in_session(store, partial(work, part))

    return await _divided(commit, batch)


async def _append(streams: Streams, run: Sequence[P]) -> list[P]:
    events = [placed.event for placed in run]
    await streams.append(run[0].stream, events, expected=run[0].version - 1)
    return list(run)


async def _divided(
    write: Callable[[Sequence[P]], Awaitable[list[P]]], events: Sequence[P]
) -> list[P]:
    """Write events at once, or each half on its own if the backend refuses the size."""
    try:
        return await write(events)
    except PayloadTooLargeError as exc:
        if len(events) == 1:
            one = events[0]
            message = f"version {one.version} of stream {one.stream!r}: {exc}"
            raise PayloadTooLargeError(message) from exc
    half = len(events) // 2
    return await _divided(write, events[:half]) + await _divided(write, events[half:])


def _runs(events: Iterable[P]) -> Iterator[Sequence[P]]:
    """Group neighbours of the same stream; an id that is repeated cannot be in the same append."""
    run: list[P] = []
    ids: set[Any] = set()
    for placed in events:
        if run and (placed.stream != run[0].stream or placed.event.id in ids):
            yield run
            run, ids = [], set()
        run.append(placed)
        ids.add(placed.event.id)
    if run:
        yield run


async def _missing(batch: Sequence[P], refuse: Refuse[P], streams: Streams) -> list[P]:
    """Return the events that are not there yet; refuse those that have no place.

    In a session this also pins the streams, all at once, so that the appends need not read them
    one by one.
    """
    by_stream: dict[str, list[int]] = {}
    for index, placed in enumerate(batch):
        by_stream.setdefault(placed.stream, []).append(index)
    there = await streams.heads(list(by_stream)) if isinstance(streams, HeadReader) else {}
    # Only where a stream holds something at these versions is it read.
    waiting = iter(
        [
            (stream, places)
            for stream, places in by_stream.items()
            if there.get(stream, batch[places[0]].version) >= batch[places[0]].version
        ]
    )
    others: list[int] = []

    async def look() -> None:
        for stream, places in waiting:
            first, last = batch[places[0]].version, batch[places[-1]].version
            found = await streams.read(stream, from_version=first, to_version=last)
            there[stream] = found.version
            stored = zip(places, found.events, strict=False)
            others.extend(index for index, one in stored if one.id != batch[index].event.id)

    await gather(lambda _: look(), range(min(READERS, len(by_stream))))
    firsts = [(stream, places[0]) for stream, places in by_stream.items()]
    ahead = [index for stream, index in firsts if there[stream] < batch[index].version - 1]
    if wrong := ahead or others:
        placed = batch[min(wrong)]
        raise refuse(placed, there[placed.stream])
    return [placed for placed in batch if placed.version > there[placed.stream]]
