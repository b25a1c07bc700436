"""Events as lines of NDJSON: one JSON object a line, and back without any loss."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime  # msgspec resolves field types at run time
from typing import Any, BinaryIO, Final, NamedTuple
from uuid import UUID, uuid5

import msgspec

from msgspec import UNSET, Struct, UnsetType, field

from eventport._engine.codec import encode_events
from eventport.errors import EventportError, InvalidEventError
from eventport.events import NewEvent, RecordedEvent
from eventport.validation import check_stream


NAMESPACE: Final = UUID("5a7c1e45-8fc0-4777-bb73-58a8f6bbb324")
"""The namespace of ids that are derived from lines; another one would import all files anew."""


class Line(Struct, forbid_unknown_fields=True):
    """One line, as `eventport export` writes and `eventport import` reads it."""

    stream: str
    type: str
    data: Any = UNSET
    data_base64: bytes | UnsetType = UNSET
    """Stands in place of `data` if that is bytes, which JSON cannot hold."""
    metadata: dict[str, Any] = field(default_factory=dict)
    id: UUID | UnsetType = UNSET


class RecordedLine(Line, kw_only=True):
    """One line, as `eventport read` and `eventport tail` write it: with what the store added."""

    version: int
    position: int
    recorded_at: datetime


class Parsed(NamedTuple):
    """An event that was read from a line."""

    line: int
    """The number of its line, from 1."""
    size: int
    """The length of its line in bytes."""
    stream: str
    version: int
    """Its place among the events of its stream in this file, from 1."""
    event: NewEvent


_decode: Final = msgspec.json.Decoder(Line).decode
_encode: Final = msgspec.json.Encoder().encode


def export_line(event: RecordedEvent) -> bytes:
    """Return what is needed to import an event into another store."""
    data, data_base64 = _either(event.data)
    line = Line(event.stream, event.type, data, data_base64, event.metadata, event.id)
    return _encode(line) + b"\n"


def recorded_line(event: RecordedEvent) -> bytes:
    """Return all that is known of an event."""
    data, data_base64 = _either(event.data)
    line = RecordedLine(
        event.stream,
        event.type,
        data,
        data_base64,
        event.metadata,
        event.id,
        version=event.version,
        position=event.position,
        recorded_at=event.recorded_at,
    )
    return _encode(line) + b"\n"


def parse(file: BinaryIO, size: int) -> Generator[Parsed]:
    """Read events from the next `size` bytes of a file, line by line; blank lines do not count.

    Raises:
        InvalidEventError: a line is bad; the message has its number and the reason.
    """
    versions: dict[str, int] = {}
    number = 0
    while size and (raw := file.readline(size)):
        number += 1
        size -= len(raw)
        if raw.isspace():
            continue
        try:
            line = _decode(raw)
            version = versions[line.stream] = versions.get(line.stream, 0) + 1
            event = NewEvent(line.type, _data(line), line.metadata, _id(line, version))
        except (ValueError, RecursionError) as exc:
            raise _bad_line(number, exc) from exc
        yield Parsed(number, len(raw), line.stream, version, event)


def check(parsed: Parsed) -> None:
    """Raise the error that a store would raise for an event, with the number of its line."""
    try:
        check_stream(parsed.stream)
        encode_events([parsed.event])
    except EventportError as exc:
        raise _bad_line(parsed.line, exc) from exc


def _data(line: Line) -> Any:
    """Take the data from the one key that has it."""
    if (line.data is UNSET) == (line.data_base64 is UNSET):
        raise ValueError("needs either `data` or `data_base64`")
    return line.data if line.data_base64 is UNSET else line.data_base64


def _either(data: Any) -> tuple[Any, bytes | UnsetType]:
    """Choose the key for data: the first is for JSON, the second for bytes."""
    return (UNSET, data) if isinstance(data, bytes) else (data, UNSET)


def _id(line: Line, version: int) -> UUID:
    """Return the id that a line gives, or one that it always gets at this place of its stream."""
    if isinstance(line.id, UUID):
        return line.id
    return uuid5(NAMESPACE, f"{version} {_encode(line).decode()}")


def _bad_line(number: int, reason: Exception) -> InvalidEventError:
    return InvalidEventError(f"line {number}: {reason}")
