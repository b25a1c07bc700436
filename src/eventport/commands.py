"""Commands: load a stream's state, decide what happens, append it at the version seen."""

from __future__ import annotations

import json

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID, uuid4, uuid5

from msgspec import Struct
from msgspec.structs import replace

from eventport.boundaries import Query
from eventport.command_log import CommandIdReusedError, CommandLog
from eventport.command_log.records import canonical, check_same
from eventport.conflicts import ATTEMPTS, retry_conflicts, run_in_session
from eventport.context import COMMAND_HASH, COMMAND_ID, CORRELATION_ID, current_context
from eventport.errors import InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.folding import EventCodec, Fold, StateLoader, replay
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AggregateResult
from eventport.turns import turn
from eventport.typed.conversion import conversion_of
from eventport.validation import MAX_INT, check_int, check_metadata, check_stream, show


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

__all__ = ["CommandHandler", "CommandIdReusedError", "CommandResult", "Decider"]

_HASH_DIGITS: Final = 32


class Decider(Struct, Generic[S, C, E], frozen=True, kw_only=True):
    """The rules of one kind of stream, as plain functions without any input or output.

    The idea and the names are those of Jérémie Chassaing, "Functional Event Sourcing Decider".
    """

    types: EventCodec[E]
    """What turns stored events into instances of the program's classes, and back."""
    initial: Callable[[], S]
    """Returns the state before the first event."""
    evolve: Callable[[S, E], S]
    """Returns the state after an event, from the state before it."""
    decide: Callable[[C, S], Iterable[E]]
    """Returns the events that a command causes in a state; none, if nothing happens.

    It raises an error of the program's own if the command is refused. It may run several times
    for one command, each time with a newer state.
    """
    boundary: Callable[[C], Query] | None = None
    """Returns which events a command depends on, wherever they are; None for those of its stream.

    The state is that of these events, in the order of their positions. Then the store needs
    `Capability.GUARDS`, and the loader is not asked.
    """

    @property
    def fold(self) -> Fold[S, E]:
        """How the events become the state."""
        return Fold(self.types, self.initial, self.evolve)


class CommandResult(Struct, Generic[S], frozen=True):
    """The result of a command."""

    status: Literal["executed", "already applied"]
    """Whether it took effect now, or had taken effect before.

    That was by another delivery, or by a try of this one whose answer was lost.
    """
    state: S
    """The state after it; what followed since is in it, if it was applied before."""
    version: int
    """The version of the stream that `state` is of."""
    events: Sequence[NewEvent]
    """What it appended, now or when it was applied before; nothing if nothing was decided."""
    position: int | None
    """The global position of its last event; None if nothing was written, or not yet."""


class CommandHandler(Generic[S, C, E]):
    """Handles commands, each on one stream, by a decider's rules.

    A conflict with another writer makes it load and decide again. A command's events carry its
    id, and its cause, in their metadata: `COMMAND_ID`, and what `current_context` says.
    Those for one stream take turns, so that the tasks of one process do not conflict.

    Args:
        store: Any event store.
        decider: The rules.
        loader: Finds the state; by default it replays the whole stream.
        attempts: How often to try at most.
        lookback: How many of the stream's last events, at least, are searched for the id of a
            command that the caller gives. Events that are replayed are searched anyway, and so
            without snapshots all of them are. A log knows all commands, and is asked instead.
        log: Where to record commands, in the same commit as their events; one that decides nothing
            is recorded, too.
    """

    def __init__(
        self,
        store: EventStore,
        decider: Decider[S, C, E],
        *,
        loader: StateLoader = replay,
        attempts: int = ATTEMPTS,
        lookback: int = 100,
        log: CommandLog | None = None,
    ) -> None:
        self._store = store
        self._decider = decider
        self._loader = loader
        self._attempts = check_int("attempts", attempts, least=1)
        self._lookback = check_int("lookback", lookback, least=1)
        self._log = log

    async def handle(
        self,
        stream: str,
        command: C,
        *,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        metadata: Mapping[str, Any] | None = None,
        session: Session | None = None,
    ) -> CommandResult[S]:
        """Handle a command: nothing is appended to its stream unless something is decided.

        Args:
            stream: The stream that the command is for.
            command: What is wanted.
            id: The command's identity. Give it if the command may be delivered again, and it is
                applied once. None makes a random one.
            metadata: What else to store with each event, besides what `bind_context` has bound.
            session: Write in this session, and so at the end of its block, together with all
                else that it writes.

        Raises:
            ConcurrencyError: the last attempt had a conflict, too; nothing was written.
            CommandIdReusedError: another command was applied under this id before.
            StoreUnavailableError: the outcome could not be learned; handle the same command,
                with an `id` that was given, again.
        """
        if id is not None and not isinstance(cast("object", id), UUID):
            message = f"id must be a uuid.UUID, not {show(id)}"
            raise InvalidArgumentTypeError(message)
        stream = check_stream(stream)
        order = _Order(stream, command, id or uuid4(), id is not None, check_metadata(metadata))
        if session is not None:
            return await self._in_session(session, order)
        boundary = self._decider.boundary
        async with turn(self._store, stream if boundary is None else boundary(command).to_json()):
            if self._log is not None:
                return await self._in_own_session(order)
            return await retry_conflicts(
                self._store, lambda: self._once(self._store, order), attempts=self._attempts
            )

    async def _in_own_session(self, order: _Order) -> CommandResult[S]:
        sessions: list[Session] = []

        def attempt(session: Session) -> Awaitable[CommandResult[S]]:
            sessions.append(session)
            return self._in_session(session, order)

        handled = await run_in_session(self._store, attempt, attempts=self._attempts)
        if handled.position is None and handled.events:
            return replace(handled, position=sessions[-1].position)
        return handled

    async def _in_session(self, session: Session, order: _Order) -> CommandResult[S]:
        handled = await self._once(session, order)
        if self._log is not None and handled.status == "executed":
            first = handled.version - len(handled.events) + 1 if handled.events else None
            await self._log.record(
                session, order.command, order.id, order.stream, first, handled.events
            )
        return handled

    async def _once(self, streams: Streams, order: _Order) -> CommandResult[S]:
        decider, stream = self._decider, order.stream
        if decider.boundary is not None:
            return await self._once_within(streams, order, decider.boundary(order.command))
        watching = _Watching(decider.types, order.id)
        types: EventCodec[E] = watching if order.repeatable and self._log is None else decider.types
        fold = Fold(types, decider.initial, decider.evolve)
        loaded = await self._loader.load(streams, stream, fold)
        # Only now: loading has searched the events that are in the state.
        if order.repeatable and (loaded.exists or self._log is not None):
            earlier = await self._earlier(streams, order, loaded.version, watching)
            if earlier is not None:
                return _applied_before(order, loaded, earlier)
        decided = _checked(decider.decide(order.command, loaded.state))
        if not decided:
            return CommandResult("executed", loaded.state, loaded.version, (), None)
        events = self._new_events(order, decided)
        appended = await streams.append(stream, events, expected=loaded.version)
        if appended.deduplicated and order.repeatable:
            return await self._once(streams, order)  # another delivery came in between
        state = loaded.state
        for event in decided:
            state = decider.evolve(state, event)
        return CommandResult("executed", state, appended.version, events, appended.position)

    async def _once_within(self, streams: Streams, order: _Order, query: Query) -> CommandResult[S]:
        """Decide on the events that a query matches, and append if they are still all."""
        decider, stream = self._decider, order.stream
        seen = await streams.query(query)
        watching = _Watching(decider.types, order.id)
        state = decider.initial()
        for event in seen.events:
            state = decider.evolve(state, watching.decode(event))
        version = (await streams.read(stream, max_count=0)).version
        if order.repeatable:
            earlier = [event for event in watching.found if event.stream == stream] or None
            if self._log is not None:
                earlier = await self._earlier(streams, order, version, watching)
            if earlier is not None:
                return _applied_before(order, AggregateResult(state, version, True), earlier)  # noqa: FBT003  # a field
        decided = _checked(decider.decide(order.command, state))
        if not decided:
            return CommandResult("executed", state, version, (), None)
        events = self._new_events(order, decided)
        appended = await streams.append(stream, events, unless=query, since=seen.token)
        if appended.deduplicated and order.repeatable:
            return await self._once_within(streams, order, query)
        for one in decided:
            state = decider.evolve(state, one)
        return CommandResult("executed", state, appended.version, events, appended.position)

    async def _earlier(
        self, streams: Streams, order: _Order, version: int, watching: _Watching[E]
    ) -> list[RecordedEvent] | None:
        """Find the events of an earlier delivery of the same command; None if there was none."""
        if self._log is not None:
            records = (record.data for record in await self._log.records(order.id, streams=streams))
            found = next((record for record in records if record.stream == order.stream), None)
            if found is None:
                return None
            check_same(found, order.command)
            return await self._log.events_in(found, streams=streams)
        first, last = max(1, version - self._lookback + 1), min(version, watching.first - 1)
        known = watching.found
        if last < first or (known and known[0].version > watching.first):
            return known or None
        page = await streams.read(order.stream, from_version=first, to_version=last)
        return [*filter(watching.is_wanted, page.events), *known] or None

    def _new_events(self, order: _Order, decided: Sequence[E]) -> list[NewEvent]:
        id_ = str(order.id)
        bound = current_context().metadata
        metadata = {
            CORRELATION_ID: id_,
            **(bound if self._log is None else self._log.hidden(bound)),
            **order.metadata,
            COMMAND_ID: id_,
        }
        if order.hash is not None:
            metadata[COMMAND_HASH] = order.hash
        return [
            self._decider.types.new(
                event, metadata=metadata, id=uuid5(order.id, f"{index}/{order.stream}")
            )
            for index, event in enumerate(decided)
        ]


class _Watching(Generic[E]):
    """Decodes for a fold, and searches its events for those of one command."""

    def __init__(self, types: EventCodec[E], command_id: UUID) -> None:
        self._types = types
        self._command_id = str(command_id)
        self.first = MAX_INT
        """The lowest version that was decoded; what is below it has not been seen."""
        self.found: list[RecordedEvent] = []
        """The events of the command."""

    def new(
        self,
        event: E,
        *,
        metadata: Mapping[str, Any] | None = None,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
    ) -> NewEvent:
        """Return an event to append; see `EventTypes.new`."""
        return self._types.new(event, metadata=metadata, id=id)

    def decode(self, event: RecordedEvent) -> E:
        """Decode an event, and note it if it is of the command."""
        self.first = min(self.first, event.version)
        if self.is_wanted(event):
            self.found.append(event)
        return self._types.decode(event)

    def is_wanted(self, event: RecordedEvent) -> bool:
        """Return whether an event is of the command."""
        return event.metadata.get(COMMAND_ID) == self._command_id


class _Order(Struct, frozen=True):
    """A command on its way."""

    stream: str
    command: Any
    id: UUID
    repeatable: bool
    """Whether the caller gave the id, so that it may be delivered again."""
    metadata: dict[str, Any]

    @property
    def hash(self) -> str | None:
        """What tells commands with one id apart; None if it is no JSON, or the id is new."""
        if not self.repeatable:
            return None
        kind = cast("type[object]", type(self.command))
        try:
            plain = conversion_of(kind).encode(self.command)
            content = json.dumps([str(self.id), kind.__qualname__, canonical(plain)])
        except Exception:  # noqa: BLE001  # whatever it is: such a command has no hash
            return None
        return sha256(content.encode()).hexdigest()[:_HASH_DIGITS]


def _applied_before(
    order: _Order, loaded: AggregateResult[S], events: Sequence[RecordedEvent]
) -> CommandResult[S]:
    """Return what an earlier delivery did, if that was of the same command."""
    kept = events[-1].metadata.get(COMMAND_HASH) if events else None
    if kept is not None and order.hash is not None and kept != order.hash:
        raise CommandIdReusedError(order.stream, order.id)
    new = [
        NewEvent(event.type, event.data, event.metadata, event.id, event.tags) for event in events
    ]
    position = (events[-1].position or None) if events else None
    return CommandResult("already applied", loaded.state, loaded.version, new, position)


def _checked(decided: Iterable[E]) -> list[E]:
    if not isinstance(cast("object", decided), Iterable):
        message = (
            f"decide must return a list of events, which may be empty, not {type(decided).__name__}"
        )
        raise InvalidArgumentTypeError(message)
    return list(decided)
