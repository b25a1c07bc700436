"""Encodes events for stores and decodes them; refuses what would not come out equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from msgspec.structs import replace

from eventport._engine.commits import Commit, Committed, EncodedEvent
from eventport._json import encode_json, kind_of
from eventport.errors import (
    CorruptEventError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
)
from eventport.events import NO_TAGS, CopiedEvent, NewEvent, RecordedEvent
from eventport.validation import check_event_type, check_tags, show


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_decode: Final = msgspec.json.Decoder().decode


def encode_events(events: object) -> tuple[EncodedEvent, ...]:
    """Check and encode the events of one append; an iterator is consumed once.

    Raises:
        InvalidArgumentTypeError: `events` is not an iterable of events.
        InvalidEventError: an event cannot be stored so that it comes out equal.
    """
    given = events
    if type(events) is not list and (  # the test of abstract classes costs a lone event a tenth
        isinstance(events, NewEvent | str | bytes | Mapping) or not isinstance(events, Iterable)
    ):
        message = f"events must be a sequence of NewEvent, such as [event], not a {kind_of(given)}"
        raise InvalidArgumentTypeError(message)
    encoded = tuple([_encode_event(event) for event in cast("Iterable[object]", events)])
    if len(encoded) > 1 and len({event.id.int for event in encoded}) < len(encoded):
        twice, _ = Counter(event.id for event in encoded).most_common(1)[0]
        message = f"two events of one append have the id {twice}: give each event its own"
        raise InvalidEventError(message)
    return encoded


def decode_event(
    *,
    stream: str,
    version: int,
    position: int,
    type_: str,
    data: str | bytes,
    metadata: str,
    id_: UUID,
    recorded_at: datetime,
    tags: Iterable[str],
) -> RecordedEvent:
    """Build a recorded event from what a store holds, as `EncodedEvent` describes it.

    Raises:
        CorruptEventError: data or metadata is not JSON.
    """
    try:
        return RecordedEvent(
            stream,
            version,
            position,
            type_,
            data if type(data) is bytes else _decode(data),
            {} if metadata == "{}" else _decode(metadata),
            id_,
            recorded_at,
            frozenset(tags) if tags else NO_TAGS,
        )
    except msgspec.DecodeError as exc:
        message = f"event {version} of stream {stream!r} does not hold JSON: {exc}"
        raise CorruptEventError(message) from exc


def decode_commit(commit: Commit, committed: Committed) -> list[RecordedEvent]:
    """Rebuild the events of a detailed commit as they can be read once it is there.

    One without a time cannot be read any more, and is left out.
    """
    events: list[RecordedEvent] = []
    for write, written in zip(commit.writes, committed.writes, strict=True):
        first = written.version - len(write.events) + 1
        found = zip(write.events, written.positions, written.times, strict=True)
        for version, (event, position, time) in enumerate(found, first):
            if position is None or time is None:
                continue
            events.append(
                decode_event(
                    stream=write.stream,
                    version=version,
                    position=position,
                    type_=event.type,
                    data=event.data,
                    metadata=event.metadata,
                    id_=event.id,
                    recorded_at=time,
                    tags=event.tags,
                )
            )
    return events


def copy_event(event: RecordedEvent) -> RecordedEvent:
    """Copy an event, so that nothing of the copy can be changed through the original."""
    return replace(event, data=_copy(event.data), metadata=_copy(event.metadata))


def _copy(value: Any) -> Any:
    kind = type(cast("object", value))
    if kind is dict:
        return {key: _copy(item) for key, item in value.items()}
    return list(map(_copy, value)) if kind is list else value


def utc_from_microseconds(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware time, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def utc_to_microseconds(time: datetime) -> int:
    """Turn an aware time into microseconds since 1970, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def _encode_event(event: object) -> EncodedEvent:
    if not isinstance(event, NewEvent):
        message = f"an event must be a NewEvent, not a {kind_of(event)}"
        raise InvalidEventError(message)
    type_ = check_event_type(event.type)
    id_ = event.id
    if type(id_) is not UUID:  # libraries that make UUIDs of other versions have subclasses
        if not isinstance(cast("object", id_), UUID):
            message = f"event {type_!r}: id must be a uuid.UUID, not {show(id_)}"
            raise InvalidEventError(message)
        id_ = UUID(int=id_.int)
    data, metadata = event.data, event.metadata
    if type(metadata) is not dict:
        message = f"event {type_!r}: metadata must be a dict, not a {kind_of(metadata)}"
        raise InvalidEventError(message)
    try:
        raw = data if type(data) is bytes else encode_json(data, "data")
        raw_metadata = encode_json(metadata, "metadata") if metadata else b"{}"
    except InvalidEventError as exc:
        message = f"event {type_!r} ({event.id}): {exc}"
        raise InvalidEventError(message) from exc
    return EncodedEvent(
        type_,
        data if type(data) is bytes else raw.decode(),
        raw_metadata.decode() if metadata else "{}",
        id_,
        len(raw) + len(raw_metadata),
        NO_TAGS if event.tags is NO_TAGS else _check_tags(event.tags, type_),
        None if type(event) is NewEvent else _first_recorded(event),
    )


def _check_tags(tags: AbstractSet[str], type_: str) -> frozenset[str]:
    try:
        return check_tags(tags)
    except InvalidArgumentError as exc:
        message = f"event {type_!r}: {exc}"
        raise InvalidEventError(message) from exc


def _first_recorded(event: NewEvent) -> datetime | None:
    """Return the time of a copy, in UTC."""
    if not isinstance(event, CopiedEvent):
        return None
    time = cast("object", event.recorded_at)
    if not isinstance(time, datetime) or time.utcoffset() is None:
        message = (
            f"event {event.type!r} ({event.id}): recorded_at must be an aware datetime: "
            "give it a timezone"
        )
        raise InvalidEventError(message)
    try:
        return time.astimezone(UTC)
    except OverflowError as exc:
        message = f"event {event.type!r} ({event.id}): recorded_at is not a year that UTC has"
        raise InvalidEventError(message) from exc
