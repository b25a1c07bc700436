"""Converts events, metadata, types and positions to the server's form and back, without loss."""

from __future__ import annotations

import re

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from eventport.adapter import (
    EncodedEvent,
    decode_event,
    utc_from_microseconds,
    utc_to_microseconds,
)
from eventport.errors import CorruptEventError
from eventport.events import RecordedEvent


ENVELOPE: Final = "eventport-metadata"
"""The key of metadata that is carried as one string inside other metadata."""

ENVELOPE_TYPE: Final = "eventport-type"
"""The key of the true type, where the server accepts fewer characters than we do."""

ENVELOPE_TAGS: Final = "eventport-tags"
"""The key of the tags, as a JSON array in one string, beside the metadata."""
ENVELOPE_TIME: Final = "eventport-recorded-at"
"""The key of the time of a copy, in microseconds since 1970: the server stamps its own."""

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"

VISIBLE: Final = r"[^$][\s\S]*"
"""A pattern for the names of streams that are not the server's own."""

_TOMBSTONE: Final = 2**63 - 1
_64_BITS: Final = 2**64 - 1
_TICKS: Final = 10
"""How many of the server's ticks, of 100 ns each, a microsecond has."""
_ENVELOPE_BYTES: Final = ENVELOPE.encode()
_PLAIN_TYPE: Final = re.compile(r"[a-zA-Z0-9_.$:-]+")
_NOT_CARRIED: Final = re.compile(r"[^a-zA-Z0-9_.$-]")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_tags: Final = msgspec.json.Decoder(frozenset[str]).decode


class Stored(Protocol):
    """An event as protocol v1 gives it: the generated message of either client."""

    @property
    def id(self) -> Any: ...  # noqa: D102  # the server's names
    @property
    def stream_identifier(self) -> Any: ...  # noqa: D102
    @property
    def stream_revision(self) -> int: ...  # noqa: D102
    @property
    def commit_position(self) -> int: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def custom_metadata(self) -> bytes: ...  # noqa: D102
    @property
    def data(self) -> bytes: ...  # noqa: D102


def stream_of(event: Stored) -> str:
    """Return the name of an event's stream."""
    name: bytes = event.stream_identifier.stream_name
    return name.decode()


def to_position(commit_position: int) -> int:
    """Turn a byte offset, which may be 0, into a position, which may not."""
    return commit_position + 1


def to_commit_position(position: int) -> int:
    """Turn a position back into the byte offset at which a record begins."""
    return position - 1


def is_foreign(event: Stored) -> bool:
    """Return whether an event is the server's own, and none that anybody appended."""
    name: bytes = event.stream_identifier.stream_name
    return name.startswith(b"$") or event.stream_revision == _TOMBSTONE


def decode(event: Stored) -> RecordedEvent:
    """Turn an event of the server into ours."""
    system, raw = event.metadata, event.custom_metadata
    type_, stream, version = system["type"], stream_of(event), event.stream_revision + 1
    try:
        metadata, tags = raw.decode() or "{}", ""
        at = int(system["created"]) // _TICKS
        if _ENVELOPE_BYTES in raw and ENVELOPE in (found := _decode(raw)):
            metadata, type_ = found[ENVELOPE], found.get(ENVELOPE_TYPE, type_)
            tags, at = found.get(ENVELOPE_TAGS, ""), int(found.get(ENVELOPE_TIME, at))
        data = event.data.decode() if system["content-type"] == JSON else event.data
        return decode_event(
            stream=stream,
            version=version,
            position=to_position(event.commit_position),
            type_=type_,
            data=data,
            metadata=metadata,
            id_=to_uuid(event.id),
            recorded_at=utc_from_microseconds(at),
            tags=_decode_tags(tags) if tags else (),
        )
    except UnicodeDecodeError as exc:
        # Its text quotes what the event holds.
        message = f"event {version} of stream {stream!r} is not text in UTF-8, although JSON is"
        raise CorruptEventError(message) from exc
    except (ValueError, msgspec.MsgspecError) as exc:
        message = f"event {version} of stream {stream!r} does not hold JSON: {exc}"
        raise CorruptEventError(message) from exc


def to_uuid(id_: Any) -> UUID:
    """Read an id, in whichever of the two forms it is sent."""
    if id_.WhichOneof("value") == "structured":
        high, low = id_.structured.most_significant_bits, id_.structured.least_significant_bits
        return UUID(int=(high & _64_BITS) << 64 | low & _64_BITS)
    return UUID(id_.string)


def plain_metadata(event: EncodedEvent) -> bytes:
    """Encode metadata for an append to one stream, where the server keeps it as it is.

    What looks like an envelope goes into one, so that it is not opened on the way back. So does
    that of an event with tags, and that of a copy, beside its time.
    """
    if event.tags or ENVELOPE in event.metadata or event.recorded_at is not None:
        return _encode(envelope(event, None))
    return event.metadata.encode()


def envelope(event: EncodedEvent, type_: str | None) -> dict[str, str]:
    """Wrap metadata for an append to several streams, which re-renders it.

    Args:
        event: Its metadata and tags travel as one string each, which stay as they are.
        type_: The event's true type, if it is stored under another.
    """
    wrapped = {ENVELOPE: event.metadata}
    if event.tags:
        wrapped[ENVELOPE_TAGS] = _encode(sorted(event.tags)).decode()
    if type_ is not None:
        wrapped[ENVELOPE_TYPE] = type_
    if event.recorded_at is not None:
        wrapped[ENVELOPE_TIME] = str(utc_to_microseconds(event.recorded_at))
    return wrapped


def carried_type(type_: str) -> str:
    """Return the type under which a server with fewer characters holds one.

    It is the type itself if its characters are allowed; all others are written ``:C3``, a byte
    of UTF-8 each.
    """
    if _PLAIN_TYPE.fullmatch(type_):
        return type_
    return "eventport:" + _NOT_CARRIED.sub(_escape, type_)


def type_pattern(types: Collection[str]) -> str:
    """Make one grouped pattern for events of these types, however they are stored."""
    stored = sorted({*types, *map(carried_type, types)})
    return f"(?:{'|'.join(map(re.escape, stored))})"


def stream_pattern(stream: str) -> str:
    """Make a pattern for one name."""
    return f"(?:{re.escape(stream)})"


def prefix_pattern(prefix: str) -> str:
    """Make a pattern for the names that start with a text.

    The server's own prefix filter compares by the rules of a language, for which "e" is no
    prefix of an "e" with an accent of its own; patterns compare characters.
    """
    return rf"(?:{re.escape(prefix)}[\s\S]*)"


def _escape(match: re.Match[str]) -> str:
    return "".join(f":{byte:02X}" for byte in match[0].encode())
