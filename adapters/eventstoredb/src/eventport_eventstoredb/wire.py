"""Events as the server holds them, and back: metadata, types and positions that come out equal."""

from __future__ import annotations

import re

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from eventport.adapter import decode_event
from eventport.errors import CorruptEventError
from eventport.events import RecordedEvent


ENVELOPE: Final = "eventport-metadata"
"""The key of metadata that is carried as one string inside other metadata."""

ENVELOPE_TYPE: Final = "eventport-type"
"""The key of the true type, where the server takes fewer characters than we do."""

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"

VISIBLE: Final = r"[^$][\s\S]*"
"""A pattern for the names of streams that are not the server's own."""

_TOMBSTONE: Final = 2**63 - 1
_ENVELOPE_BYTES: Final = ENVELOPE.encode()
_PLAIN_TYPE: Final = re.compile(r"[a-zA-Z0-9_.$:-]+")
_NOT_CARRIED: Final = re.compile(r"[^a-zA-Z0-9_.$-]")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Stored(Protocol):
    """An event as both clients hand it out."""

    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> bytes: ...  # noqa: D102
    @property
    def metadata(self) -> bytes: ...  # noqa: D102
    @property
    def content_type(self) -> str: ...  # noqa: D102
    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def stream_name(self) -> str: ...  # noqa: D102
    @property
    def stream_position(self) -> int: ...  # noqa: D102
    @property
    def commit_position(self) -> int | None: ...  # noqa: D102
    @property
    def recorded_at(self) -> datetime | None: ...  # noqa: D102


def to_position(commit_position: int) -> int:
    """Turn a byte offset, which may be 0, into a position, which may not."""
    return commit_position + 1


def to_commit_position(position: int) -> int:
    """Turn a position back into the byte offset at which a record begins."""
    return position - 1


def is_foreign(event: Stored) -> bool:
    """Tell whether an event is the server's own, and none that anybody appended."""
    return event.stream_name.startswith("$") or event.stream_position == _TOMBSTONE


def decode(event: Stored) -> RecordedEvent:
    """Turn an event of a client into ours."""
    type_, raw = event.type, event.metadata
    try:
        metadata = raw.decode() or "{}"
        if _ENVELOPE_BYTES in raw and ENVELOPE in (found := _decode(raw)):
            metadata, type_ = found[ENVELOPE], found.get(ENVELOPE_TYPE, type_)
        data = event.data.decode() if event.content_type == JSON else event.data
    except (ValueError, msgspec.MsgspecError) as exc:
        where = f"event {event.stream_position + 1} of stream {event.stream_name!r}"
        message = f"{where} does not hold JSON: {exc}"
        raise CorruptEventError(message) from exc
    if event.recorded_at is None or event.commit_position is None:
        message = f"the server tells neither time nor position of {event.id}; 22.10 or newer does"
        raise CorruptEventError(message)
    return decode_event(
        event.stream_name,
        event.stream_position + 1,
        to_position(event.commit_position),
        type_,
        data,
        metadata,
        event.id,
        event.recorded_at,
    )


def plain_metadata(metadata: str) -> bytes:
    """Encode metadata for an append to one stream, where the server keeps it as it is.

    What looks like an envelope goes into one, so that it is not opened on the way back.
    """
    return wrapped_metadata(metadata, None) if ENVELOPE in metadata else metadata.encode()


def wrapped_metadata(metadata: str, type_: str | None) -> bytes:
    """Encode metadata for an append to several streams, which re-renders it.

    Args:
        metadata: A JSON object as text; it travels as one string, which stays as it is.
        type_: The event's true type, if it is stored under another.
    """
    envelope = {ENVELOPE: metadata}
    if type_ is not None:
        envelope[ENVELOPE_TYPE] = type_
    return _encode(envelope)


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


def prefix_pattern(prefix: str) -> str:
    """Make a pattern for the names that start with a text.

    The server's own prefix filter compares by the rules of a language, for which "e" is no
    prefix of an "e" with an accent of its own; patterns compare characters.
    """
    return rf"(?:{re.escape(prefix)}[\s\S]*)"


def _escape(match: re.Match[str]) -> str:
    return "".join(f":{byte:02X}" for byte in match[0].encode())
