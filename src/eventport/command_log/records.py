"""What the log keeps: a record of each command, and lists that say where records are."""

from __future__ import annotations

import json

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from eventport.context import Cause
from eventport.errors import CorruptEventError, EventportError, InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import Streams
from eventport.results import ReadResult
from eventport.toolkit_streams import not_a_record, read_record, toolkit_stream
from eventport.typed import EventTypes
from eventport.typed.conversion import conversion_of
from eventport.validation import show


class CommandIdReusedError(EventportError):
    """A command has the id of another one that was applied before; nothing was written."""

    def __init__(self, stream: str | None, command_id: object) -> None:
        super().__init__(stream, command_id)
        self.stream = stream
        """The stream that the earlier one was for; None if it was for none."""
        self.command_id = command_id
        """Their id."""

    def __str__(self) -> str:
        place = "" if self.stream is None else f"stream {self.stream!r}: "
        return (
            f"{place}another command was applied under the id {self.command_id}: "
            "give each command an id of its own, and the same one only to a repeated delivery"
        )


class CommandRecord(Struct, frozen=True):
    """What a command did to one stream."""

    id: UUID
    """The command's identity."""
    type: str
    """The name of its class."""
    data: Any
    """The command itself, as JSON."""
    user: str | None
    """The user, or the user's hash if users are hashed; None if no user was named."""
    correlation_id: str
    """The conversation that it belongs to."""
    causation_id: str | None
    """The id of the event or message that led to it; None if it came from outside."""
    stream: str | None
    """The stream that it was for; None if it neither wrote nor read one."""
    first_version: int | None
    """The version of the first event that it caused; None if it caused none."""
    events: list[UUID]
    """The ids of the events that it caused, which follow each other in the stream."""
    cause: Cause | None = None
    """The place of the event that led to it; None if it was no event that was read."""

    @property
    def last_version(self) -> int | None:
        """The version of the last event that it caused; None if it caused none."""
        first = self.first_version
        return None if first is None else first + len(self.events) - 1


class Entry(Struct, frozen=True):
    """Where a record is, in a list of the log."""

    id: UUID
    record: int


Recorded: TypeAlias = RecordedEvent[CommandRecord]
"""A record, and when and where it was stored."""

RECORDED: Final = "eventport.CommandRecorded"
LISTED: Final = "eventport.CommandListed"
ACTED: Final = "eventport.UserActed"

_records: Final = EventTypes[CommandRecord]()
_records.register(CommandRecord, name=RECORDED)


def new_record(record: CommandRecord, metadata: Mapping[str, Any]) -> NewEvent:
    """Return a record as an event to append."""
    return _records.new(record, metadata=metadata)


def new_entry(type_: str, id_: UUID, record: int) -> NewEvent:
    """Return an entry of a list as an event to append."""
    return NewEvent(type_, {"id": str(id_), "record": record})


def stream_of_command(command_id: str) -> str:
    """Return the stream of a command's records."""
    return toolkit_stream("command", command_id)


async def read_records(streams: Streams, command_id: str) -> list[Recorded]:
    """Return all records of a command, one for each stream."""
    found = await streams.read(stream_of_command(command_id))
    return [_checked(event, command_id) for event in found.events]


async def read_listed(
    streams: Streams, events: Sequence[RecordedEvent], type_: str
) -> Iterator[Recorded]:
    """Return the records that some entries of a list are about, in their order.

    The iterator raises `CorruptEventError` at an event that is no entry, or whose record does not
    exist.
    """
    names = {name for event in events if (name := _named(event, type_)) is not None}
    found = await streams.read_many(names)
    return (_listed(found, event, type_) for event in events)


def _named(event: RecordedEvent, type_: str) -> str | None:
    """Return the stream that an entry names; None if it is no entry."""
    try:
        return stream_of_command(str(read_record(event, type_, Entry).id))
    except CorruptEventError:
        return None


def _listed(found: Mapping[str, ReadResult], event: RecordedEvent, type_: str) -> Recorded:
    entry = read_record(event, type_, Entry)
    records = found[stream_of_command(str(entry.id))].events
    record = next((one for one in records if one.version == entry.record), None)
    if record is None:
        raise not_a_record(event, type_, "it names a record that does not exist")
    return _checked(record, str(entry.id))


def check_command_id(id_: object) -> None:
    """Refuse the identity of a command that is neither a UUID nor None."""
    if id_ is not None and not isinstance(id_, UUID):
        message = f"id must be a uuid.UUID, not {show(id_)}"
        raise InvalidArgumentTypeError(message)


def as_appended(event: RecordedEvent) -> NewEvent:
    """Return an event that a command has caused as it was appended."""
    return NewEvent(event.type, event.data, event.metadata, event.id, event.tags)


def as_json(command: object) -> tuple[str, Any]:
    """Return the name of a command's class, and the command as JSON.

    Raises:
        InvalidEventError: it would not come back equal and of equal types.
    """
    kind = type(command)
    return kind.__name__, conversion_of(kind).to_json(command, f"command {kind.__qualname__!r}")


def check_same(record: CommandRecord, command: object) -> None:
    """Refuse another command than the one that is recorded under its id."""
    type_, data = as_json(command)
    if record.type != type_ or canonical(record.data) != canonical(data):
        raise CommandIdReusedError(record.stream, record.id)


def canonical(plain: Any) -> Any:
    """Return JSON values in one order: that of a set is another one in each process."""
    if isinstance(plain, dict):
        members = cast("dict[str, object]", plain)
        return sorted(([key, canonical(part)] for key, part in members.items()), key=json.dumps)
    if isinstance(plain, list):
        items = cast("list[object]", plain)
        return sorted((canonical(part) for part in items), key=json.dumps)
    return plain


def _checked(event: RecordedEvent, command_id: str) -> Recorded:
    """Return a stored record, once it is known to be one of this command.

    Raises:
        CorruptEventError: something else has written to its stream.
    """
    record = read_record(event, RECORDED, CommandRecord)
    if str(record.id) != command_id:
        raise not_a_record(event, RECORDED, "it is about another command")
    return replace(cast("Recorded", event), data=record)
