"""The command log: each command, its user and its events, in the same commit as the events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from eventport.context import COMMAND_ID, current_context
from eventport.errors import InvalidArgumentError, NotSupportedError
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import Capability, EventStore, Session, Streams
from eventport.toolkit_streams import digest, not_a_record, read_record, toolkit_stream
from eventport.typed import EventTypes
from eventport.typed.conversion import conversion_of


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
    stream: str
    """The stream that it was for."""
    first_version: int
    """The version of the first event that it caused."""
    events: list[UUID]
    """The ids of the events that it caused, which follow each other in the stream."""


class _Entry(Struct, frozen=True):
    """Where a record is, in the list of what a user did."""

    id: UUID
    record: int


Recorded: TypeAlias = RecordedEvent[CommandRecord]
"""A record, and when and where it was stored."""

_RECORDED: Final = "eventport.CommandRecorded"
_ACTED: Final = "eventport.UserActed"

_records: Final = EventTypes[CommandRecord]()
_records.register(CommandRecord, name=_RECORDED)
_entries: Final = EventTypes[_Entry]()
_entries.register(_Entry, name=_ACTED)


class CommandLog:
    """Records commands, and finds them by event, by id and by user.

    Each command has a stream of its own, which says exactly whether it was applied before, and
    each user has one that lists commands. Two commands of one user at the same moment are a
    conflict, which command handlers resolve by trying again.

    Args:
        store: A store whose sessions can write several streams.
        hashed: Keep the SHA-256 of a user's name instead of the name. A reader of the store
            can still guess names, and check a guess by its hash.
        secret: Keep an HMAC-SHA256 with this secret instead, which cannot be guessed without it.
            What a user did is not found with another secret.

    Raises:
        NotSupportedError: sessions of this store cannot write several streams.
    """

    def __init__(
        self, store: EventStore, *, hashed: bool = False, secret: bytes | None = None
    ) -> None:
        if secret is not None and not secret:
            raise InvalidArgumentError("secret is empty, and so could be guessed")
        if Capability.SESSIONS not in store.capabilities:
            message = (
                f"{type(store).__name__} cannot commit several streams at once, so commands "
                "cannot be recorded together with their events: leave out the command log, or "
                "use a backend with sessions"
            )
            raise NotSupportedError(message)
        self._store = store
        self._hashed = hashed or secret is not None
        self._secret = secret

    async def record(
        self,
        session: Session,
        command: object,
        id: UUID,  # noqa: A002  # as `NewEvent` calls it
        stream: str,
        first_version: int,
        events: Sequence[NewEvent],
    ) -> None:
        """Append to a session what a command did to one stream, as `CommandHandler` does it.

        Args:
            session: The session that commits the events, too.
            command: What was wanted: an instance of a class that can be turned into JSON.
            id: The command's identity.
            stream: The stream that the events were appended to.
            first_version: The version of the first of them.
            events: The events.

        Raises:
            InvalidEventError: the command would not come back equal and of equal types.
        """
        context = current_context()
        user = None if context.user is None else self._stored(context.user)
        kind = type(command)
        data = conversion_of(kind).to_json(command, f"command {kind.__qualname__!r}")
        record = CommandRecord(
            id,
            kind.__name__,
            data,
            user,
            context.correlation_id or str(id),
            context.causation_id,
            stream,
            first_version,
            [event.id for event in events],
        )
        own = _stream_of(str(id))
        seen = (await session.read(own, max_count=0)).version
        appended = await session.append(own, [_records.new(record)], expected=seen)
        if user is not None:
            entry = _Entry(id, appended.version)
            await session.append(toolkit_stream("user", user), [_entries.new(entry)])

    async def records(
        self,
        id: UUID,  # noqa: A002  # as `NewEvent` calls it
        *,
        streams: Streams | None = None,
    ) -> list[Recorded]:
        """Return what a command did: one record for each stream, none if it is unknown.

        Args:
            id: The command's identity.
            streams: Where to look, such as a session; if None, in the store.
        """
        return await _read(streams or self._store, str(id))

    async def command_of(self, event: RecordedEvent) -> Recorded | None:
        """Return the command that caused an event; None if none was recorded for it."""
        id_ = event.metadata.get(COMMAND_ID)
        if id_ is None:
            return None
        found = await _read(self._store, str(id_))
        return next((record for record in found if event.id in record.data.events), None)

    async def events_of(self, id: UUID) -> list[RecordedEvent]:  # noqa: A002  # as above
        """Return the events that a command caused, of all streams that it was for."""
        events: list[RecordedEvent] = []
        for record in await self.records(id):
            first = record.data.first_version
            last = first + len(record.data.events) - 1
            events += (
                await self._store.read(record.data.stream, from_version=first, to_version=last)
            ).events
        return events

    async def by_user(
        self, user: str, *, backwards: bool = False
    ) -> AsyncGenerator[Recorded, None]:
        """Go through what a user did, in the order of the commits.

        Args:
            user: Who; by name, also if users are hashed.
            backwards: Newest first.
        """
        name = toolkit_stream("user", self._stored(user))
        async with aclosing(self._store.iterate(name, backwards=backwards)) as entries:
            async for event in entries:
                entry = read_record(event, _ACTED, _Entry)
                found = await self._store.read(
                    _stream_of(str(entry.id)), from_version=entry.record, to_version=entry.record
                )
                if not found.events:
                    raise not_a_record(event, _ACTED, "it names a record that does not exist")
                yield _record(found.events[0], str(entry.id))

    def _stored(self, user: str) -> str:
        return digest(user, self._secret) if self._hashed else user


async def _read(streams: Streams, command_id: str) -> list[Recorded]:
    found = await streams.read(_stream_of(command_id))
    return [_record(event, command_id) for event in found.events]


def _record(event: RecordedEvent, command_id: str) -> Recorded:
    """Return a stored record, once it is known to be one of this command.

    Raises:
        CorruptEventError: something else has written to its stream.
    """
    record = read_record(event, _RECORDED, CommandRecord)
    if str(record.id) != command_id:
        raise not_a_record(event, _RECORDED, "it is about another command")
    return replace(cast("Recorded", event), data=record)


def _stream_of(command_id: str) -> str:
    return toolkit_stream("command", command_id)
