"""Copying all events of a store to another one, whichever backends keep them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from msgspec import Struct

from eventport._json import encode_json
from eventport.boundaries import Query
from eventport.catalogue import bytes_of
from eventport.comparing import Comparison, copied_events
from eventport.errors import EventportError, InvalidArgumentError
from eventport.events import CopiedEvent, NewEvent, RecordedEvent
from eventport.placing import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Filling, write_batch
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import Capability, EventStore
from eventport.toolkit_streams import is_toolkit_stream
from eventport.validation import check_event_type, check_stream, check_tags, check_toolkit_types


_NEWEST: Final = 100
"""Among how many events of the target the last one is looked for that can have been copied."""


class CopyRefusedError(EventportError):
    """A store cannot be copied to another one: what is in the way is named, with its stream."""


class CopyReport(Struct, frozen=True):
    """What a copy has done, and what a comparison of both stores has found."""

    copied: int
    """How many events were written."""
    there: int
    """How many were in the target already, because of an earlier copy."""
    left_out: int
    """How many were not copied: checkpoints and dead letters of projections, which hold positions
    of the source."""
    streams: int
    """In how many streams the copied events are."""
    position: int
    """The last position of the source that was looked at; later events were not copied."""
    times_kept: bool
    """Whether the target keeps `recorded_at`; if not, its events have the times of the copy."""
    source_hash: str
    """A SHA-256 of all copied events, as the source gives them, in their order."""
    target_hash: str
    """The same of the target."""
    difference: str | None
    """What the first difference is, with stream and version; None if there is none."""

    @property
    def is_equal(self) -> bool:
        """Whether the events of both stores are equal, one after the other."""
        return self.difference is None


def show_nothing(what: str, events: int, total: int | None) -> None:
    """Show no progress."""


async def copy_events(
    source: EventStore,
    target: EventStore,
    *,
    progress: Callable[[str, int, int | None], object] = show_nothing,
) -> CopyReport:
    """Copy all events of a store to another one, in their order, and compare the stores.

    Streams, versions, ids, types, data, metadata and tags are kept, and `recorded_at` if the
    target can keep it; positions are those of the target. Events that are appended to the source
    meanwhile are left out. After an interruption, call it again: it goes on after the last event
    that was copied.

    All events are checked before the first one is written. It takes memory for each stream, and
    for one batch of at most 1,000 events or 4 MiB.

    Args:
        source: Where from; it is only read.
        target: Where to: an empty store, or one with an earlier copy of the source.
        progress: Is called with what is being done (``checking``, ``copying`` or ``verifying``),
            with how many more events that has been done for, and with how many there are in all,
            or None while that is not known.

    Raises:
        CopyRefusedError: the target holds other events; or the source has an event that cannot be
            copied. Nothing was written, unless somebody writes to the target meanwhile.
        NotSupportedError: one of the stores has no `Capability.GLOBAL_ORDER`.
        PayloadTooLargeError: the target refuses the size of an event, which is named; those before
            it were copied.
    """
    return await Copying(source, target, progress).go_on()


class Copying:
    """A copy that goes on when its source has grown, at the cost of what is new.

    Args:
        source: See `copy_events`.
        target: See `copy_events`.
        progress: See `copy_events`.
    """

    def __init__(
        self,
        source: EventStore,
        target: EventStore,
        progress: Callable[[str, int, int | None], object],
    ) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._keeps_times = Capability.TIMES in target.capabilities
        self._comparison = Comparison(target, keeps_times=self._keeps_times)
        # A server that truncates or deletes streams has their events in its log for some time.
        self._may_truncate = Capability.CATALOGUE not in source.capabilities
        self._start: int | None = None
        """The position of the source after which nothing was there at the beginning."""
        self._heads: dict[str, int] = {}
        self._few: Sequence[RecordedEvent] | None = None
        """The events that the last pass has found, if they are few."""
        self._events = self._copied = self._left_out = self._position = 0

    async def go_on(self) -> CopyReport:
        """Copy and compare what is new since the last time, and report on all of it.

        Raises:
            CopyRefusedError: see `copy_events`, and for the other errors.
        """
        if self._start is None:
            self._start = await _find_start(self._source, self._target)
        compared = self._position
        start = max(self._start, compared)
        new = await self._check(start)
        async with aclosing(_batches(self._fresh(start), self._keeps_times)) as batches:
            async for batch in batches:
                self._copied += len(await write_batch(self._target, batch, _refuse))
                self._progress("copying", len(batch), new)
        theirs = copied_events(self._source, compared, self._position)
        await self._comparison.go_on(
            self._fresh(start) if compared == start else theirs,
            lambda count: self._progress("verifying", count, self._events),
        )
        return CopyReport(
            self._copied,
            self._events - self._copied,
            self._left_out,
            len(self._heads),
            self._position,
            self._keeps_times,
            *self._comparison.hashes,
            self._comparison.difference,
        )

    async def _check(self, start: int) -> int:
        """Look at all new events before any is written; refuse what another store would refuse.

        Returns:
            How many come after a position, and so are to be copied.
        """
        new = size = 0
        few: list[RecordedEvent] | None = []
        async with aclosing(self._source.iterate_all(after=self._position)) as found:
            async for event in found:
                self._position = event.position
                self._progress("checking", 1, None)
                if holds_positions(event.stream):
                    self._left_out += 1
                    continue
                before = self._heads.get(event.stream, 0)
                if before == 0 and self._may_truncate:
                    await _check_beginning(self._source, event)
                _check_event(event, before)
                self._heads[event.stream] = event.version
                self._events += 1
                if event.position > start:
                    new += 1
                    size += bytes_of(event)
                    if new > MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES:
                        few = None
                    if few is not None:
                        few.append(event)
        self._few = few
        return new

    def _fresh(self, start: int) -> AsyncGenerator[RecordedEvent, None]:
        """Go through the new events after a position; a few need not be read again."""
        if self._few is None:
            return copied_events(self._source, start, self._position)
        return _each(self._few)


class _Placed(NamedTuple):
    """An event to copy; see `eventport.placing.Placed`."""

    stream: str
    version: int
    event: NewEvent
    size: int


async def _find_start(source: EventStore, target: EventStore) -> int:
    """Return the position of the source after which the target has nothing yet."""
    newest = await target.query(Query.all(), max_count=_NEWEST, backwards=True)
    for last in newest.events:
        if holds_positions(last.stream):
            continue
        version = last.version
        there = await source.read(last.stream, from_version=version, to_version=version)
        if not there.events or there.events[0].id != last.id:
            message = (
                f"the target has events of its own: version {version} of stream {last.stream!r} is "
                "not that of the source: copy to an empty store; nothing was written"
            )
            raise CopyRefusedError(message)
        return there.events[0].position
    return 0  # then each event is looked for


async def _check_beginning(source: EventStore, event: RecordedEvent) -> None:
    """Refuse a stream that does not begin with the event that the global order has first."""
    first = await source.read(event.stream, from_version=event.version, to_version=event.version)
    if not first.events:
        raise _truncated(event.stream, event.version)


def _truncated(stream: str, version: int) -> CopyRefusedError:
    message = (
        f"stream {stream!r} cannot be copied: events at or before its version {version} are "
        "missing, as after a truncation, and a copy could not keep the versions; nothing was "
        "written"
    )
    return CopyRefusedError(message)


def _check_event(event: RecordedEvent, before: int) -> None:
    stream, version = event.stream, event.version
    if version != before + 1:
        raise _truncated(stream, version)
    try:
        if before == 0:
            check_stream(stream)
        check_event_type(event.type)
        check_tags(event.tags)
        if is_toolkit_stream(stream):
            check_toolkit_types(stream, [event.type])
        encode_json(event.metadata, "metadata")
        if not isinstance(event.data, bytes):
            encode_json(event.data, "data")
    except InvalidArgumentError as exc:
        message = (
            f"version {version} of stream {stream!r} cannot be copied: {exc}; nothing was written"
        )
        raise CopyRefusedError(message) from exc


async def _each(events: Sequence[RecordedEvent]) -> AsyncGenerator[RecordedEvent, None]:
    for event in events:
        yield event


async def _batches(
    events: AsyncGenerator[RecordedEvent, None],
    keeps_times: bool,  # noqa: FBT001  # internal
) -> AsyncGenerator[Sequence[_Placed], None]:
    filling = Filling[_Placed]()
    async with aclosing(events):
        async for event in events:
            new = (
                CopiedEvent.of(event)
                if keeps_times
                else NewEvent(event.type, event.data, event.metadata, event.id, event.tags)
            )
            placed = _Placed(event.stream, event.version, new, bytes_of(event))
            if full := filling.add(placed):
                yield full
    if filling.batch:
        yield filling.batch


def _refuse(placed: _Placed, there: int) -> CopyRefusedError:
    """Make the error for an event whose place in the target is another one's."""
    if there < placed.version - 1:
        reason = f"the target has {there} events of that stream, and those between are missing"
    else:
        reason = "the target has another event there"
    message = (
        f"version {placed.version} of stream {placed.stream!r} cannot be copied: {reason}: copy to "
        "an empty store; neither this event nor any after it was written"
    )
    return CopyRefusedError(message)
