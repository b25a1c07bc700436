"""Commands: load a stream's state, decide what happens, append it at the version seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID, uuid4, uuid5
from weakref import WeakValueDictionary

from anyio import Lock
from msgspec import Struct
from msgspec.structs import replace

from eventport.command_log import CommandLog
from eventport.context import COMMAND_ID, CORRELATION_ID, current_context
from eventport.errors import InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.folding import Fold, StateLoader, replay
from eventport.protocols import EventStore, Session, Streams
from eventport.session import ATTEMPTS, retry_conflicts, run_in_session
from eventport.typed import EventTypes
from eventport.validation import MAX_INT, check_int, check_metadata, check_stream, show


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


class Decider(Struct, Generic[S, C, E], frozen=True, kw_only=True):
    """The rules of one kind of stream, as plain functions without any input or output.

    The idea and the names are those of Jérémie Chassaing, "Functional Event Sourcing Decider".
    """

    types: EventTypes[E]
    """What turns stored events into instances of the program's classes, and back."""
    initial: Callable[[], S]
    """Gives the state before the first event."""
    evolve: Callable[[S, E], S]
    """Gives the state after an event, from the state before it."""
    decide: Callable[[C, S], Iterable[E]]
    """Gives what happens if a command meets a state: no events, if nothing does.

    It raises an error of the program's own if the command is refused. It may run several times
    for one command, each time with a newer state.
    """

    @property
    def fold(self) -> Fold[S, E]:
        """How the events become the state."""
        return Fold(self.types, self.initial, self.evolve)


class Handled(Struct, Generic[S], frozen=True):
    """What became of a command."""

    status: Literal["executed", "already applied"]
    """Whether it took effect now, or was found to have done so before.

    That was by another delivery, or by a try of this one whose answer was lost.
    """
    state: S
    """The state after it; what followed since is in it, if it was applied before."""
    version: int
    """The version of the stream that `state` is of."""
    events: Sequence[NewEvent]
    """What it appended; nothing if nothing was decided, or if it was applied before."""
    position: int | None
    """The global position of its last event; None if nothing was written, or not yet."""


class CommandHandler(Generic[S, C, E]):
    """Handles commands, each on one stream, by a decider's rules.

    A conflict with another writer makes it load and decide again. A command's events carry its
    id, and what it is due to, in their metadata: `COMMAND_ID`, and what `current_context` says.
    Those for one stream take turns, so that the tasks of one handler do not conflict.

    Args:
        store: Any event store.
        decider: The rules.
        loader: Finds the state; by default it replays the whole stream.
        attempts: How often to try at the most.
        lookback: How many of the stream's last events, at least, are searched for the id of a
            command that the caller gives. Events that are replayed are searched anyway, and so
            without snapshots all of them are. A log knows all commands, and is asked instead.
        log: Where to record commands, in the same commit as their events.
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
        self._turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    async def handle(
        self,
        stream: str,
        command: C,
        *,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        metadata: Mapping[str, Any] | None = None,
        session: Session | None = None,
    ) -> Handled[S]:
        """Handle a command: nothing is written unless something is decided.

        Args:
            stream: The stream that the command is for.
            command: What is wanted.
            id: The command's identity. Give it if the command may be delivered again, and it is
                applied once. None makes a random one.
            metadata: What else to store with each event.
            session: Write in this session, and so at the end of its block, together with all
                else that it writes.

        Raises:
            ConcurrencyError: others got ahead in the last attempt, too; nothing was written.
            StoreUnavailableError: the outcome could not be learned; handle the same command,
                with an `id` that was given, again.
        """
        if id is not None and not isinstance(id, UUID):
            message = f"id must be a uuid.UUID, not {show(id)}"
            raise InvalidArgumentTypeError(message)
        stream = check_stream(stream)
        order = _Order(stream, command, id or uuid4(), id is not None, check_metadata(metadata))
        if session is not None:
            return await self._in_session(session, order)
        async with self._turns.setdefault(stream, Lock()):
            if self._log is not None:
                return await self._in_own_session(order)
            return await retry_conflicts(
                lambda: self._once(self._store, order), attempts=self._attempts
            )

    async def _in_own_session(self, order: _Order) -> Handled[S]:
        sessions: list[Session] = []

        def attempt(session: Session) -> Awaitable[Handled[S]]:
            sessions.append(session)
            return self._in_session(session, order)

        handled = await run_in_session(self._store, attempt, attempts=self._attempts)
        return replace(handled, position=handled.position or sessions[-1].position)

    async def _in_session(self, session: Session, order: _Order) -> Handled[S]:
        handled = await self._once(session, order)
        if self._log is not None and handled.events:
            first = handled.version - len(handled.events) + 1
            await self._log.record(
                session, order.command, order.id, order.stream, first, handled.events
            )
        return handled

    async def _once(self, streams: Streams, order: _Order) -> Handled[S]:
        decider, stream = self._decider, order.stream
        watching = _Watching(decider.types, order.id)
        types = watching if order.repeatable and self._log is None else decider.types
        fold = Fold(types, decider.initial, decider.evolve)
        loaded = await self._loader.load(streams, stream, fold)
        # Only now, so that what is in the state has been looked through.
        if order.repeatable and loaded.exists:
            earlier = await self._earlier(streams, order, loaded.version, watching)
            if earlier is not None:
                position = earlier.position or None
                return Handled("already applied", loaded.state, loaded.version, (), position)
        decided = _checked(decider.decide(order.command, loaded.state))
        if not decided:
            return Handled("executed", loaded.state, loaded.version, (), None)
        events = self._new_events(order, decided)
        appended = await streams.append(stream, events, expected=loaded.version)
        if appended.deduplicated and order.repeatable:
            return await self._once(streams, order)  # another delivery came in between
        state = loaded.state
        for event in decided:
            state = decider.evolve(state, event)
        return Handled("executed", state, appended.version, events, appended.position)

    async def _earlier(
        self, streams: Streams, order: _Order, version: int, watching: _Watching[E]
    ) -> RecordedEvent | None:
        """Find what is left of an earlier delivery of the same command."""
        if self._log is not None:
            records = await self._log.records(order.id, streams=streams)
            return next((found for found in records if found.data.stream == order.stream), None)
        first, last = max(1, version - self._lookback + 1), min(version, watching.first - 1)
        if watching.found is not None or last < first:
            return watching.found
        page = await streams.read(order.stream, from_version=first, to_version=last)
        return next((event for event in page.events if watching.is_wanted(event)), None)

    def _new_events(self, order: _Order, decided: Sequence[E]) -> list[NewEvent]:
        id_ = str(order.id)
        metadata = {
            **order.metadata,
            CORRELATION_ID: id_,
            **current_context().metadata,
            COMMAND_ID: id_,
        }
        return [
            self._decider.types.new(
                event, metadata=metadata, id=uuid5(order.id, f"{index}/{order.stream}")
            )
            for index, event in enumerate(decided)
        ]


class _Watching(EventTypes[E]):
    """Decodes the events of a fold, and looks among them for those of one command."""

    def __init__(self, types: EventTypes[E], command_id: UUID) -> None:
        vars(self).update(vars(types))  # the same classes, and no copies of them
        self._types = types
        self._command_id = str(command_id)
        self.first = MAX_INT
        """The lowest version that was decoded; what is below it has not been seen."""
        self.found: RecordedEvent | None = None

    def decode(self, event: RecordedEvent) -> E:
        self.first = min(self.first, event.version)
        if self.is_wanted(event):
            self.found = event
        return self._types.decode(event)

    def is_wanted(self, event: RecordedEvent) -> bool:
        return event.metadata.get(COMMAND_ID) == self._command_id


class _Order(Struct, frozen=True):
    """A command on its way."""

    stream: str
    command: Any
    id: UUID
    repeatable: bool
    """Whether the caller gave the id, so that it may be delivered again."""
    metadata: dict[str, Any]


def _checked(decided: Iterable[E]) -> list[E]:
    if not isinstance(decided, Iterable):
        message = (
            f"decide must return a list of events, which may be empty, not {type(decided).__name__}"
        )
        raise InvalidArgumentTypeError(message)
    return list(decided)
