"""The handler of commands: by itself, in a session, in a log, or through a gate."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from msgspec.structs import replace

from eventport._concurrency.nesting import inside_of
from eventport.boundaries import Query
from eventport.command_log import CommandLog
from eventport.command_log.records import check_command_id, check_same
from eventport.commands.deciding import (
    CommandResult,
    Decider,
    Order,
    Watching,
    applied_before,
    checked,
    events_of,
    search,
)
from eventport.commands.gate_states import Held, HeldBoundary, HeldStream
from eventport.commands.gates import Gate, GateLimits
from eventport.conflicts import ATTEMPTS, retry_conflicts, run_in_session
from eventport.context import current_context
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.folding import EventCodec, Fold, StateLoader, replay
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AggregateResult
from eventport.turns import turn
from eventport.validation import check_int, check_metadata, check_stream, show


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


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
        gate: Decide commands for one stream or boundary in turn on a state that is held in memory,
            and commit those that wait together. True for the usual limits. It knows the newest
            100,000 commands of a stream again.

    Raises:
        InvalidArgumentError: a count is below 1, or there are a gate and a log.
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
        gate: bool | GateLimits = False,
    ) -> None:
        self._store = store
        self._decider = decider
        self._loader = loader
        self._attempts = check_int("attempts", attempts, least=1)
        self._lookback = check_int("lookback", lookback, least=1)
        self._log = log
        self._gate = _gate_of(store, gate, attempts, log)

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
            GateFullError: too many commands wait at the gate; nothing was written.
        """
        check_command_id(id)
        stream = check_stream(stream)
        order = Order(stream, command, id or uuid4(), id is not None, check_metadata(metadata))
        if session is not None:
            return await self._in_session(session, order)
        boundary = self._decider.boundary
        query = None if boundary is None else boundary(command)
        # A command of a hook or an inline handler must not wait for the commit that waits for it.
        if self._gate is not None and inside_of.get() is None:
            return await self._gate.handle(
                query or stream, lambda: self._held(stream, query), order
            )
        async with turn(self._store, stream if query is None else query.to_json()):
            if self._log is not None:
                return await self._in_own_session(order)
            return await retry_conflicts(
                self._store, lambda: self._once(self._store, order), attempts=self._attempts
            )

    def _held(self, stream: str, query: Query | None) -> Held[S]:
        if query is not None:
            return HeldBoundary(self._store, self._decider, query, self._lookback)
        return HeldStream(self._store, self._decider, self._loader, self._lookback, stream)

    async def _in_own_session(self, order: Order) -> CommandResult[S]:
        sessions: list[Session] = []

        def attempt(session: Session) -> Awaitable[CommandResult[S]]:
            sessions.append(session)
            return self._in_session(session, order)

        handled = await run_in_session(self._store, attempt, attempts=self._attempts)
        if handled.position is None and handled.events:
            return replace(handled, position=sessions[-1].position)
        return handled

    async def _in_session(self, session: Session, order: Order) -> CommandResult[S]:
        handled = await self._once(session, order)
        if self._log is not None and handled.status == "executed":
            first = handled.version - len(handled.events) + 1 if handled.events else None
            await self._log.record(
                session, order.command, order.id, order.stream, first, handled.events
            )
        return handled

    async def _once(self, streams: Streams, order: Order) -> CommandResult[S]:
        decider, stream = self._decider, order.stream
        if decider.boundary is not None:
            return await self._once_within(streams, order, decider.boundary(order.command))
        watching = Watching(decider.types, order.id)
        types: EventCodec[E] = watching if order.repeatable and self._log is None else decider.types
        fold = Fold(types, decider.initial, decider.evolve)
        loaded = await self._loader.load(streams, stream, fold)
        # Only now: loading has searched the events that are in the state.
        if order.repeatable and (loaded.exists or self._log is not None):
            earlier = await self._earlier(streams, order, loaded.version, watching)
            if earlier is not None:
                return applied_before(order, loaded, earlier)
        decided = checked(decider.decide(order.command, loaded.state))
        if not decided:
            return CommandResult("executed", loaded.state, loaded.version, (), None)
        events = self._events_of(order, decided)
        appended = await streams.append(stream, events, expected=loaded.version)
        if appended.deduplicated and order.repeatable:
            return await self._once(streams, order)  # another delivery came in between
        state = loaded.state
        for event in decided:
            state = decider.evolve(state, event)
        return CommandResult("executed", state, appended.version, events, appended.position)

    async def _once_within(self, streams: Streams, order: Order, query: Query) -> CommandResult[S]:
        """Decide on the events that a query matches, and append if they are still all."""
        decider, stream = self._decider, order.stream
        seen = await streams.query(query)
        watching = Watching(decider.types, order.id)
        state = decider.initial()
        for event in seen.events:
            state = decider.evolve(state, watching.decode(event))
        earlier: list[RecordedEvent] | None = None
        if order.repeatable and self._log is None:
            # The query need not match what the command itself has appended.
            own = [event for event in watching.found if event.stream == stream]
            version, found = await search(streams, order, self._lookback, own)
            earlier = found or None
        else:
            version = (await streams.read(stream, max_count=0)).version
            if order.repeatable:
                earlier = await self._earlier(streams, order, version, watching)
        if earlier is not None:
            return applied_before(order, AggregateResult(state, version, True), earlier)  # noqa: FBT003  # a field
        decided = checked(decider.decide(order.command, state))
        if not decided:
            return CommandResult("executed", state, version, (), None)
        events = self._events_of(order, decided)
        # Another delivery of the command, which the query may not see, is a conflict, too.
        expected: Expectation = version if order.repeatable else ANY
        appended = await streams.append(
            stream, events, expected=expected, unless=query, since=seen.token
        )
        if appended.deduplicated and order.repeatable:
            return await self._once_within(streams, order, query)
        for one in decided:
            state = decider.evolve(state, one)
        return CommandResult("executed", state, appended.version, events, appended.position)

    def _events_of(self, order: Order, decided: Sequence[E]) -> list[NewEvent]:
        bound = current_context().metadata
        shown = bound if self._log is None else self._log.hidden(bound)
        return events_of(order, decided, self._decider.types, shown)

    async def _earlier(
        self, streams: Streams, order: Order, version: int, watching: Watching[E]
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


def _gate_of(
    store: EventStore, gate: object, attempts: int, log: CommandLog | None
) -> Gate[Any] | None:
    """Return the gate that is asked for."""
    if gate is False:
        return None
    if not (gate is True or isinstance(gate, GateLimits)):
        message = f"gate must be True, False or GateLimits(...), not {show(gate)}"
        raise InvalidArgumentTypeError(message)
    if log is not None:
        message = (
            "a gate commits many commands at once, and a command log writes streams of its own for "
            "each of them: leave out one of the two"
        )
        raise InvalidArgumentError(message)
    return Gate(store, GateLimits() if gate is True else gate, attempts)
