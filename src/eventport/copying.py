"""Copying all events of a store to another one, whichever backends keep them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.json import Encoder

from eventport._json import encode_json
from eventport.boundaries import Query
from eventport.catalogue import bytes_of
from eventport.errors import EventportError, InvalidArgumentError
from eventport.events import CopiedEvent, NewEvent, RecordedEvent
from eventport.placing import Filling, write_batch
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import Capability, EventStore
from eventport.toolkit_streams import is_toolkit_stream
from eventport.validation import check_event_type, check_stream, check_tags, check_toolkit_types


_NEWEST: Final = 100
"""Among how many events of the target the last one is looked for that can have been copied."""

_encode: Final = Encoder().encode


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


def _ignore(what: str, events: int, total: int | None) -> None:
    """Show no progress."""


async def copy_events(
    source: EventStore,
    target: EventStore,
    *,
    progress: Callable[[str, int, int | None], object] = _ignore,
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
    start = await _find_start(source, target)
    found = await _check(source, start, progress)
    keeps_times = Capability.TIMES in target.capabilities
    copied = 0
    async with aclosing(_batches(_up_to(source, start, found.position), keeps_times)) as batches:
        async for batch in batches:
            copied += len(await write_batch(target, batch, _refuse))
            progress("copying", len(batch), found.events - found.there)
    compared = await _compare(source, target, found, keeps_times, progress)
    return CopyReport(
        copied,
        found.events - copied,
        found.left_out,
        found.streams,
        found.position,
        keeps_times,
        *compared,
    )


class _Found(NamedTuple):
    """What a source has."""

    events: int
    """How many can be copied."""
    there: int
    """How many of them are copied already."""
    left_out: int
    streams: int
    position: int


class _Placed(NamedTuple):
    """An event to copy; see `eventport.placing.Placed`."""

    stream: str
    version: int
    event: NewEvent
    size: int


class _Compared(NamedTuple):
    source_hash: str
    target_hash: str
    difference: str | None


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


async def _check(
    source: EventStore, start: int, progress: Callable[[str, int, int | None], object]
) -> _Found:
    """Look at all events before anything is written; refuse what another store would refuse."""
    heads: dict[str, int] = {}
    events = there = left_out = position = 0
    # A server that truncates or deletes streams has their events in its log for some time.
    may_truncate = Capability.CATALOGUE not in source.capabilities
    async with aclosing(source.iterate_all()) as found:
        async for event in found:
            position = event.position
            progress("checking", 1, None)
            if holds_positions(event.stream):
                left_out += 1
                continue
            before = heads.get(event.stream, 0)
            if before == 0 and may_truncate:
                await _check_beginning(source, event)
            _check_event(event, before)
            heads[event.stream] = event.version
            events += 1
            there += position <= start
    return _Found(events, there, left_out, len(heads), position)


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


async def _up_to(
    store: EventStore, after: int, position: int | None
) -> AsyncGenerator[RecordedEvent, None]:
    """Go through the events that are copied, up to a position, or else to the head."""
    async with aclosing(store.iterate_all(after=after)) as events:
        async for event in events:
            if position is not None and event.position > position:
                return
            if not holds_positions(event.stream):
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


async def _compare(
    source: EventStore,
    target: EventStore,
    found: _Found,
    keeps_times: bool,  # noqa: FBT001  # internal
    progress: Callable[[str, int, int | None], object],
) -> _Compared:
    """Go through both stores side by side."""
    hashes = sha256(), sha256()
    difference: str | None = None
    async with (
        aclosing(_up_to(source, 0, found.position)) as theirs,
        aclosing(_up_to(target, 0, None)) as ours,
    ):
        while True:
            one, other = await anext(theirs, None), await anext(ours, None)
            if one is None and other is None:
                break
            lines = [_line(event, keeps_times) for event in (one, other)]
            for hashed, line in zip(hashes, lines, strict=True):
                hashed.update(line)
            if difference is None and lines[0] != lines[1]:
                difference = _difference(one, other, keeps_times)
            progress("verifying", 1, found.events)
    return _Compared(hashes[0].hexdigest(), hashes[1].hexdigest(), difference)


def _line(event: RecordedEvent | None, keeps_times: bool) -> bytes:  # noqa: FBT001  # internal
    return b"" if event is None else _encode(_parts(event, keeps_times)) + b"\n"


def _parts(event: RecordedEvent, keeps_times: bool) -> dict[str, Any]:  # noqa: FBT001  # internal
    """Return all that a copy has to keep; bytes are not taken for their base64."""
    parts: dict[str, Any] = {
        "stream": event.stream,
        "version": event.version,
        "id": event.id,
        "type": event.type,
        "bytes" if isinstance(event.data, bytes) else "data": event.data,
        "metadata": event.metadata,
        "tags": sorted(event.tags),
    }
    if keeps_times:
        parts["recorded_at"] = event.recorded_at
    return parts


def _difference(
    one: RecordedEvent | None,
    other: RecordedEvent | None,
    keeps_times: bool,  # noqa: FBT001  # internal
) -> str:
    """Say where two stores differ, without the data of an event."""
    if other is None:
        return f"the target lacks {_place(one)}"
    if one is None:
        return f"the target has {_place(other)} besides"
    if (one.stream, one.version) != (other.stream, other.version):
        return f"the target has {_place(other)} where the source has {_place(one)}"
    mine, theirs = _parts(one, keeps_times), _parts(other, keeps_times)
    names = [
        name for name in mine if name not in theirs or _encode(mine[name]) != _encode(theirs[name])
    ]
    return f"{_place(one)} has another {names[0]} in the target"


def _place(event: RecordedEvent | None) -> str:
    return "" if event is None else f"version {event.version} of stream {event.stream!r}"
