"""The log itself: it records commands, and finds them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID, uuid4

from msgspec import Struct
from msgspec.structs import replace

from eventport._concurrency.gathering import gather
from eventport.command_log.recording import RecordingSession
from eventport.command_log.records import (
    ACTED,
    LISTED,
    CommandRecord,
    Recorded,
    as_appended,
    as_json,
    check_command_id,
    check_same,
    new_entry,
    new_record,
    read_listed,
    read_records,
    stream_of_command,
)
from eventport.conflicts import ATTEMPTS, run_in_session
from eventport.context import COMMAND_ID, USER, current_context
from eventport.errors import InvalidArgumentError, NotSupportedError
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import Capability, EventStore, Session, Streams
from eventport.toolkit_streams import digest, toolkit_stream
from eventport.validation import check_metadata


T = TypeVar("T")

_AT_ONCE: Final = 128
"""How many records of a list are read together, at most; the first few are read a few at once."""


class LoggedResult(Struct, Generic[T], frozen=True):
    """The result of a command that a log has handled."""

    status: Literal["executed", "already applied"]
    """Whether it took effect now, or had taken effect before."""
    id: UUID
    """The command's identity."""
    result: T | None
    """What its function returned; None if it was applied before."""
    events: Sequence[NewEvent]
    """What it appended, now or when it was applied before."""
    position: int | None
    """The global position of the last event; None if there is none, or it is not known yet."""


class CommandLog:
    """Records commands, and finds them by id, event, cause, stream and user.

    Each command has a stream of its own, which says exactly whether it was applied before. Each
    user, each stream and each event that led to commands has one that lists them. Two commands
    of one list at the same moment are a conflict, which is resolved by trying again.

    Args:
        store: A store whose sessions can write several streams.
        hashed: Keep the SHA-256 of a user's name instead of the name, in the events of commands,
            too. A reader of the store can still guess names, and check a guess by its hash.
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

    async def handle(
        self,
        command: object,
        function: Callable[[Session], Awaitable[T]],
        *,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        metadata: Mapping[str, Any] | None = None,
        session: Session | None = None,
        store: EventStore | None = None,
        attempts: int = ATTEMPTS,
    ) -> LoggedResult[T]:
        """Run a function for a command, and record the command with all that was appended.

        A conflict runs it again, so it must have no effects but those on the session. If it
        raises, nothing is written or recorded; if it appends nothing, the command is recorded
        with the streams that it has read.

        Args:
            command: What is wanted: an instance of a class that can be turned into JSON.
            function: What to do; it gets a session whose events get the command's id.
            id: The command's identity. Give it if the command may be delivered again, and it is
                applied once. None makes a random one.
            metadata: What else to store with each event.
            session: Write in this session, and so at the end of its block; a conflict is then
                that session's.
            store: Where to open a session; None for the store of the log.
            attempts: How often to try, at most.

        Raises:
            ConcurrencyError: the last attempt had a conflict, too; nothing was written.
            CommandIdReusedError: another command was applied under this id before.
            StoreUnavailableError: the outcome could not be learned; handle the same command,
                with an `id` that was given, again.
        """
        check_command_id(id)
        given, sessions = check_metadata(metadata), list[Session]()

        async def attempt(session: Session) -> LoggedResult[T]:
            sessions.append(session)
            if id is not None and (records := await self.records(id, streams=session)):
                check_same(records[0].data, command)
                return await self._applied_before(id, session)
            return await self._execute(session, command, id or uuid4(), given, function)

        if session is not None:
            return await attempt(session)
        handled = await run_in_session(store or self._store, attempt, attempts=attempts)
        if handled.status == "executed" and handled.events:
            return replace(handled, position=sessions[-1].position)
        return handled

    async def record(
        self,
        session: Session,
        command: object,
        id: UUID,  # noqa: A002  # as `NewEvent` calls it
        stream: str | None,
        first_version: int | None,
        events: Sequence[NewEvent],
    ) -> None:
        """Append to a session what a command did to one stream, as `CommandHandler` does it.

        Args:
            session: The session that commits the events, too.
            command: What was wanted: an instance of a class that can be turned into JSON.
            id: The command's identity.
            stream: The stream that the events were appended to, or that it was for.
            first_version: The version of the first of them; None if there are none.
            events: The events.

        Raises:
            InvalidEventError: the command would not come back equal and of equal types.
        """
        context = current_context()
        user = None if context.user is None else self._stored(context.user)
        record = CommandRecord(
            id,
            *as_json(command),
            user,
            context.correlation_id or str(id),
            context.causation_id,
            stream,
            first_version,
            [event.id for event in events],
            context.cause,
        )
        own = stream_of_command(str(id))
        keys = [
            (ACTED, "user", user),
            (LISTED, "commands-of", stream),
            (LISTED, "caused-by", context.causation_id),
        ]
        lists = {toolkit_stream(kind, key): type_ for type_, kind, key in keys if key is not None}
        # All heads in the time of one: an append in a session asks for that of its stream first.
        seen, *_ = await gather(partial(session.read, max_count=0), [own, *lists])
        appended = await session.append(
            own, [new_record(record, context.extra)], expected=seen.version
        )
        for name, type_ in lists.items():
            await session.append(name, [new_entry(type_, id, appended.version)])

    def hidden(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return metadata with the user that is bound as this log keeps it."""
        user = current_context().user
        if not self._hashed or user is None or metadata.get(USER) != user:
            return metadata
        return {**metadata, USER: self._stored(user)}

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
        return await read_records(streams or self._store, str(id))

    async def command_of(self, event: RecordedEvent) -> Recorded | None:
        """Return the command that caused an event; None if none was recorded for it."""
        id_ = event.metadata.get(COMMAND_ID)
        if id_ is None:
            return None
        found = await read_records(self._store, str(id_))
        return next((record for record in found if event.id in record.data.events), None)

    async def cause_of(self, record: CommandRecord) -> RecordedEvent | None:
        """Return the event that led to a command; None if it was no event of this store."""
        if record.cause is None:
            return None
        version = record.cause.version
        found = await self._store.read(
            record.cause.stream, from_version=version, to_version=version
        )
        return next((each for each in found.events if str(each.id) == record.causation_id), None)

    async def events_of(
        self,
        id: UUID,  # noqa: A002  # as above
        *,
        streams: Streams | None = None,
    ) -> list[RecordedEvent]:
        """Return the events that a command caused, of all streams that it was for.

        Args:
            id: The command's identity.
            streams: Where to look, such as a session; if None, in the store.
        """
        events: list[RecordedEvent] = []
        for record in await self.records(id, streams=streams):
            events += await self.events_in(record.data, streams=streams)
        return events

    async def events_in(
        self, record: CommandRecord, *, streams: Streams | None = None
    ) -> list[RecordedEvent]:
        """Return the events of one record; see `events_of`."""
        if record.stream is None or record.first_version is None:
            return []
        found = await (streams or self._store).read(
            record.stream, from_version=record.first_version, to_version=record.last_version
        )
        return found.events

    def by_user(self, user: str, *, backwards: bool = False) -> AsyncGenerator[Recorded, None]:
        """Go through what a user did, in the order of the commits.

        Args:
            user: Who; by name, also if users are hashed.
            backwards: Newest first.
        """
        return self._listed(ACTED, "user", self._stored(user), backwards=backwards)

    def of_stream(self, stream: str, *, backwards: bool = False) -> AsyncGenerator[Recorded, None]:
        """Go through the commands that were for a stream, in the order of the commits.

        Args:
            stream: The stream that they wrote; or, if they wrote nothing, that they were for.
            backwards: Newest first.
        """
        return self._listed(LISTED, "commands-of", stream, backwards=backwards)

    def caused_by(
        self, cause: RecordedEvent[Any] | UUID | str, *, backwards: bool = False
    ) -> AsyncGenerator[Recorded, None]:
        """Go through the commands that an event led to, in the order of the commits.

        Args:
            cause: The event; or the id of an event, or of another message.
            backwards: Newest first.
        """
        id_ = cause.id if isinstance(cause, RecordedEvent) else cause
        return self._listed(LISTED, "caused-by", str(id_), backwards=backwards)

    async def _listed(
        self, type_: str, kind: str, key: str, *, backwards: bool
    ) -> AsyncGenerator[Recorded, None]:
        name = toolkit_stream(kind, key)
        some: list[RecordedEvent] = []
        size = 1
        async with aclosing(self._store.iterate(name, backwards=backwards)) as entries:
            async for event in entries:
                some.append(event)
                if len(some) == size:
                    for record in await read_listed(self._store, some, type_):
                        yield record
                    some, size = [], min(2 * size, _AT_ONCE)
            for record in await read_listed(self._store, some, type_) if some else ():
                yield record

    async def _execute(
        self,
        session: Session,
        command: object,
        id_: UUID,
        metadata: Mapping[str, Any],
        function: Callable[[Session], Awaitable[T]],
    ) -> LoggedResult[T]:
        recording = RecordingSession(session, id_, metadata, self.hidden)
        result = await function(cast("Session", recording))
        events: list[NewEvent] = []
        for effect in recording.effects():
            await self.record(session, command, id_, *effect)
            events += effect.events
        return LoggedResult("executed", id_, result, events, None)

    async def _applied_before(self, id_: UUID, session: Session) -> LoggedResult[Any]:
        found = await self.events_of(id_, streams=session)
        events = [as_appended(event) for event in found]
        position = max((event.position for event in found), default=0) or None
        return LoggedResult("already applied", id_, None, events, position)

    def _stored(self, user: str) -> str:
        return digest(user, self._secret) if self._hashed else user
