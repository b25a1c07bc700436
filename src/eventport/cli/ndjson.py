"""Events as NDJSON, one JSON object per line, and back without any loss."""

from __future__ import annotations

import json

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Generator
from datetime import datetime  # msgspec resolves field types at run time
from typing import Annotated, Any, BinaryIO, Final, NamedTuple
from uuid import UUID, uuid5

import msgspec

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from eventport._engine.codec import encode_events
from eventport.errors import EventportError, InvalidEventError
from eventport.events import CopiedEvent, NewEvent, RecordedEvent
from eventport.toolkit_streams import is_toolkit_stream
from eventport.typed.conversion import explain
from eventport.validation import check_stream, check_toolkit_types, show_key


NAMESPACE: Final = UUID("5a7c1e45-8fc0-4777-bb73-58a8f6bbb324")
"""The namespace of ids that are derived from lines; another one would import all files anew."""


class Line(Struct, forbid_unknown_fields=True):
    """One line, as `export`, `read` and `tail` write it, and as `import` reads it."""

    stream: str
    type: str
    data: Any = UNSET
    data_base64: bytes | UnsetType = UNSET
    """Stands in place of `data` if that is bytes, which JSON cannot hold."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    id: UUID | UnsetType = UNSET
    version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    """The event's version in its stream; without it, one more than that of the line before."""
    position: int | UnsetType = UNSET
    """Where it was in another store, which says nothing about this one."""
    recorded_at: datetime | UnsetType = UNSET
    """When it was first recorded."""
    tags: list[str] | UnsetType = UNSET
    """What it is about; left out if there are none."""


class Parsed(NamedTuple):
    """An event that was read from a line."""

    line: int
    """The number of its line, from 1."""
    size: int
    """The length of its line in bytes."""
    stream: str
    version: int
    """Its version: what the line says, or else its place in the stream, from 1."""
    event: NewEvent
    recorded_at: datetime | None
    """When it was first recorded, if the line says so."""

    def copied(self) -> Parsed:
        """Return it with an event that keeps the time that the line gives, if it gives one."""
        event, time = self.event, self.recorded_at
        if time is None:
            return self
        copy = CopiedEvent(
            event.type, event.data, event.metadata, event.id, event.tags, recorded_at=time
        )
        return self._replace(event=copy)


_decode: Final = msgspec.json.Decoder(Line).decode
_encode: Final = msgspec.json.Encoder().encode


def export_line(event: RecordedEvent) -> bytes:
    """Return the line that import needs to put an event into another store unchanged."""
    return _encode(_line(event)) + b"\n"


def recorded_line(event: RecordedEvent) -> bytes:
    """Return the line with everything that is known of an event."""
    return _encode(replace(_line(event), position=event.position)) + b"\n"


def _line(event: RecordedEvent) -> Line:
    # The first key is for JSON, the second for bytes.
    data, data_base64 = (
        (UNSET, event.data) if isinstance(event.data, bytes) else (event.data, UNSET)
    )
    return Line(
        event.stream,
        event.type,
        data,
        data_base64,
        event.metadata,
        event.id,
        version=event.version,
        recorded_at=event.recorded_at,
        tags=sorted(event.tags) or UNSET,
    )


def parse(
    file: BinaryIO,
    size: int,
    *,
    renumber: bool = False,
    look: Callable[[bytes], object] | None = None,
) -> Generator[Parsed]:
    """Read events from the next `size` bytes of a file, line by line; blank lines do not count.

    Args:
        file: NDJSON; a byte-order mark before the first line is ignored.
        size: How many bytes to read.
        renumber: Count the versions of each stream from 1, whatever the lines say.
        look: Is called with each line, and may raise `ValueError`.

    Raises:
        InvalidEventError: a line is bad; the message has its number and the reason.
    """
    versions: dict[str, int] = {}
    number = 0
    while size and (raw := file.readline(size)):
        number += 1
        size -= len(raw)
        if number == 1:
            raw = _after_mark(raw)
        if raw.isspace() or not raw:
            continue
        try:
            line = _decode(raw)
            if look is not None:
                look(raw)
            before = versions.get(line.stream)
            version = (before or 0) + 1 if renumber else _version(line, before)
            versions[line.stream] = version
            tags = frozenset[str]() if isinstance(line.tags, UnsetType) else frozenset(line.tags)
            event = NewEvent(line.type, _data(line), line.metadata, _id(line, version), tags)
            recorded_at = _recorded_at(line)
        except msgspec.ValidationError as exc:
            path, reason = explain(exc)
            raise _bad_line(number, reason + (path and f" at {path}")) from exc
        except (ValueError, RecursionError) as exc:
            raise _bad_line(number, exc) from exc
        yield Parsed(number, len(raw), line.stream, version, event, recorded_at)


def refuse_repeated_keys(raw: bytes) -> None:
    """Raise `ValueError` if an object has a key twice, which would lose the first value."""
    _look(raw.decode(errors="surrogatepass"))


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for index, (key, _) in enumerate(pairs):
        if key in seen:
            shown = show_key(key, index)
            message = f"an object has {shown} twice: only one value could be kept"
            raise ValueError(message)
        seen.add(key)


_look: Final = json.JSONDecoder(object_pairs_hook=_unique).decode


def check(parsed: Parsed) -> None:
    """Raise the error that a store would raise for an event, with the number of its line."""
    try:
        check_stream(parsed.stream)
        encode_events([parsed.copied().event])
        if is_toolkit_stream(parsed.stream):
            check_toolkit_types(parsed.stream, [parsed.event.type])
    except EventportError as exc:
        raise _bad_line(parsed.line, exc) from exc


def _data(line: Line) -> Any:
    """Take the data from the one key that has it."""
    if (line.data is UNSET) == (line.data_base64 is UNSET):
        raise ValueError("needs either `data` or `data_base64`")
    return line.data if line.data_base64 is UNSET else line.data_base64


def _after_mark(first: bytes) -> bytes:
    """Return the first line without a byte-order mark."""
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise _bad_line(1, "this is UTF-16: convert the file to UTF-8")
    return first.removeprefix(BOM_UTF8)


def _version(line: Line, before: int | None) -> int:
    """Return the version that a line gives, or that comes after the line before."""
    if not isinstance(line.version, int):
        return (before or 0) + 1
    if before is not None and line.version != before + 1:
        message = (
            f"stream {line.stream!r} goes from version {before} to {line.version}, so this is only "
            "part of it: import a whole export, or count the versions anew with --renumber"
        )
        raise ValueError(message)
    return line.version


def _recorded_at(line: Line) -> datetime | None:
    if not isinstance(line.recorded_at, datetime):
        return None
    if line.recorded_at.tzinfo is None:
        raise ValueError("recorded_at needs an offset, such as Z")
    return line.recorded_at


def _id(line: Line, version: int) -> UUID:
    """Return the id that a line gives, or one derived from the line and its version."""
    if isinstance(line.id, UUID):
        return line.id
    # Without the keys that an export adds, so that the id stays the same.
    own = replace(line, version=UNSET, position=UNSET, recorded_at=UNSET)
    return uuid5(NAMESPACE, f"{version} {_encode(own).decode()}")


def _bad_line(number: int, reason: object) -> InvalidEventError:
    return InvalidEventError(f"line {number}: {reason}")
