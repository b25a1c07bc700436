"""The names of the streams that the toolkit itself keeps: snapshots, claimed keys, commands."""

from __future__ import annotations

import hmac
import re

from hashlib import sha256
from typing import Any, Final, TypeVar, cast

from msgspec import ValidationError, convert

from eventport.errors import CorruptEventError, InvalidStreamNameError
from eventport.events import RecordedEvent
from eventport.typed.conversion import explain
from eventport.validation import MAX_NAME_BYTES, TOOLKIT_STREAMS, show


R = TypeVar("R")


_HASH_BYTES: Final = 1 + 64  # the mark and a SHA-256 in hexadecimal digits
# What would make two lists of parts look alike, and what no name may contain.
_ambiguous: Final = re.compile(r"[%/~\x00-\x1f\x7f-\x9f]")
_escaped: Final = re.compile("%([0-9A-F]{2})")


def toolkit_stream(kind: str, *parts: str) -> str:
    """Name a stream of the toolkit, so that different parts never make the same name.

    ``toolkit_stream("snapshot", "order/1")`` is ``"eventport/snapshot/order%2F1"``. The end of a
    name that would be too long is replaced by ``~`` and a SHA-256 of the whole name.

    Args:
        kind: What the stream is for, in one plain word.
        parts: What it belongs to: any text.
    """
    for part in parts:
        if not isinstance(cast("object", part), str):
            message = f"a part of a stream's name must be text, not {show(part)}"
            raise InvalidStreamNameError(message)
    name = TOOLKIT_STREAMS + "/".join([kind, *(_ambiguous.sub(_escape, part) for part in parts)])
    try:
        raw = name.encode()
    except UnicodeEncodeError as exc:
        message = f"stream name {show(name)} contains a lone surrogate, which is not Unicode text"
        raise InvalidStreamNameError(message) from exc
    if len(raw) <= MAX_NAME_BYTES:
        return name
    kept = raw[: MAX_NAME_BYTES - _HASH_BYTES].decode(errors="ignore")
    return f"{kept}~{sha256(raw).hexdigest()}"


def parts_of(stream: str) -> list[str]:
    """Return the parts that a stream of the toolkit was named by, unless its name was cut."""
    _, *parts = stream.removeprefix(TOOLKIT_STREAMS).split("/")
    return [_escaped.sub(lambda match: chr(int(match[1], 16)), part) for part in parts]


def is_toolkit_stream(name: str) -> bool:
    """Return whether a stream is one of the toolkit's own."""
    return name.startswith(TOOLKIT_STREAMS)


def read_record(event: RecordedEvent, type_: str, as_: type[R], value: Any = None) -> R:
    """Return a record of the toolkit's own, once it is known to be one.

    Args:
        event: An event of one of the toolkit's streams.
        type_: The type that it must have.
        as_: What the record is.
        value: What to convert; None for the event's data.

    Raises:
        CorruptEventError: something else has written to that stream.
    """
    if event.type != type_:
        raise not_a_record(event, type_, f"its type is {show(event.type)}")
    try:
        return convert(event.data if value is None else value, as_)
    except ValidationError as exc:
        path, reason = explain(exc)
        raise not_a_record(event, type_, reason + (path and f" at {path}")) from exc


def not_a_record(event: RecordedEvent, wanted: str, reason: str) -> CorruptEventError:
    """Make the error for what the toolkit has not written to a stream of its own."""
    message = (
        f"stream {event.stream!r} belongs to eventport's toolkit, but its event {event.version} "
        f"is no {wanted} of it: {reason}"
    )
    return CorruptEventError(message)


def digest(text: str, secret: bytes | None = None) -> str:
    """Return what stands for personal data: its SHA-256, or with a secret its HMAC-SHA256."""
    raw = text.encode(errors="surrogatepass")  # only its hash is kept, so it may be anything
    return sha256(raw).hexdigest() if secret is None else hmac.digest(secret, raw, "sha256").hex()


def _escape(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"
