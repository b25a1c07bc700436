"""What a gate decides on: the state of a stream, held in memory, or that of a boundary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from eventport.boundaries import Query
from eventport.commands.deciding import (
    CommandResult,
    Decider,
    Noting,
    Order,
    applied_before,
    checked,
    command_of,
    events_of,
    search,
)
from eventport.context import current_context
from eventport.errors import ConcurrencyError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.folding import EventCodec, Fold, StateLoader
from eventport.protocols import Capability, EventStore
from eventport.results import AggregateResult


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

_PAGE: Final = 500
"""How many events are fetched at once, so that memory is bounded."""

MAX_KNOWN: Final = 100_000
"""How many commands of a stream a gate knows again: the newest, some 20 MB of ids."""

_FEW: Final = 20
"""How many events are fetched at once for one command, which hardly ever has more."""


class Decision(Struct, Generic[S], frozen=True):
    """What was decided for one command, and is not committed yet."""

    order: Order
    result: CommandResult[S]
    """Its result, without a position."""


class Held(Protocol[S]):
    """What decisions are made on. Each turn refreshes it, decides, and commits."""

    async def refresh(self) -> None:
        """Make it the newest state that is known."""
        ...

    def may_join(self, batch: Sequence[Order], order: Order, /) -> bool:
        """Return whether a command can be committed together with others."""
        ...

    async def earlier(self, order: Order) -> CommandResult[S] | None:
        """Return the result of an earlier delivery of a command."""
        ...

    def decide(self, order: Order) -> Decision[S]:
        """Decide on what was decided before in this turn, and let the next one see it."""
        ...

    async def commit(self, decisions: Sequence[Decision[S]]) -> list[CommandResult[S]] | None:
        """Write what was decided, if the state that it was decided on is still the newest one.

        Returns:
            The results; None if all has to be decided again, since another delivery of the same
            commands has come in between.

        Raises:
            ConcurrencyError: somebody else has written.
        """
        ...


class HeldStream(Generic[S, C, E]):
    """The state of one stream, and which commands are in it."""

    def __init__(
        self,
        store: EventStore,
        decider: Decider[S, C, E],
        loader: StateLoader,
        lookback: int,
        stream: str,
    ) -> None:
        self._store = store
        self._decider = decider
        self._loader = loader
        self._lookback = lookback
        self._stream = stream
        self._base: _State[S] | None = None
        """What is committed, as far as it is known; None if it has to be loaded."""
        self._next: _State[S] = _State(decider.initial(), 0)
        """The state after what was decided in this turn."""
        self._is_newest = False
        self._changed_in_place = False
        self._known = _Known()

    async def refresh(self) -> None:
        """See `Held.refresh`."""
        if self._base is not None and not self._is_newest:
            await self._catch_up(self._base)
        if self._base is None:
            self._base = await self._load()
        self._is_newest = True
        self._next = self._base

    def may_join(self, _: Sequence[Order], __: Order, /) -> bool:
        """See `Held.may_join`: all go into the one stream."""
        return True

    async def earlier(self, order: Order) -> CommandResult[S] | None:
        """See `Held.earlier`."""
        first = self._known.first(str(order.id))
        if first is None:
            return None
        events: list[RecordedEvent] = []
        while True:
            version = first + len(events)
            page = await self._store.read(self._stream, from_version=version, max_count=_FEW)
            own = list(takewhile(lambda event: command_of(event) == str(order.id), page.events))
            events += own
            if len(own) < _FEW:
                break
        if not events:
            return None  # they were removed from the store
        if page.version != self._next.version:
            self._is_newest = False
            await self.refresh()
        loaded = AggregateResult(self._next.state, self._next.version, True)  # noqa: FBT003  # a field
        return applied_before(order, loaded, events)

    def decide(self, order: Order) -> Decision[S]:
        """See `Held.decide`."""
        before = self._next
        events, state = _decide(self._decider, order, before.state)
        if events:
            self._changed_in_place |= state is before.state
            self._next = _State(state, before.version + len(events))
        result = CommandResult("executed", state, self._next.version, events or (), None)
        return Decision(order, result)

    async def commit(self, decisions: Sequence[Decision[S]]) -> list[CommandResult[S]] | None:
        """See `Held.commit`."""
        base = self._base or self._next
        try:
            position, deduplicated = await self._write(base.version, decisions)
        except BaseException:
            self._undo()
            raise
        if deduplicated and any(one.order.repeatable for one in decisions):
            self._undo()
            return None
        version = base.version
        for one in decisions:
            if one.result.events:
                self._known.note(str(one.order.id), version + 1)
                version = one.result.version
        self._base, self._changed_in_place = self._next, False
        return [_placed(one.result, position) for one in decisions]

    async def _write(
        self, version: int, decisions: Sequence[Decision[S]]
    ) -> tuple[int | None, bool]:
        """Append all events, or, if there are none, check whether the state is the newest one."""
        events = [event for one in decisions for event in one.result.events]
        if events:
            appended = await self._store.append(self._stream, events, expected=version)
            return appended.position, appended.deduplicated
        head = (await self._store.read(self._stream, max_count=0)).version
        if head != version:
            raise ConcurrencyError(self._stream, version, head)
        return None, False

    def _undo(self) -> None:
        """Forget what was decided; if that has changed the state itself, forget that, too."""
        self._is_newest = False
        if self._changed_in_place:
            self._base, self._changed_in_place = None, False

    async def _load(self) -> _State[S]:
        decider, store, stream = self._decider, self._store, self._stream
        self._known = _Known()
        noting = _NotingCommands(decider.types, self._known)
        fold = Fold(noting, decider.initial, decider.evolve)
        loaded = await self._loader.load(store, stream, fold)
        first = max(1, loaded.version - self._lookback + 1)
        last = min(loaded.version, noting.first - 1)
        if first <= last:
            for event in (await store.read(stream, from_version=first, to_version=last)).events:
                noting.note(event)
        return _State(loaded.state, loaded.version)

    async def _catch_up(self, base: _State[S]) -> None:
        """Fold what others have written; forget the state if that does not follow it."""
        decider, state, version = self._decider, base.state, base.version
        noting = _NotingCommands(decider.types, self._known)
        while True:
            page = await self._store.read(self._stream, from_version=version + 1, max_count=_PAGE)
            self._base = None  # until the page is folded: that may change the state in place
            first = page.events[0].version if page.events else page.version + 1
            if first != version + 1:
                return
            for event in page.events:
                state = decider.evolve(state, noting.decode(event))
            version += len(page.events)
            self._base = _State(state, version)
            if version >= page.version:
                return


class HeldBoundary(Generic[S, C, E]):
    """The state of the events that a query matches, read anew for each turn."""

    def __init__(
        self, store: EventStore, decider: Decider[S, C, E], query: Query, lookback: int
    ) -> None:
        self._store = store
        self._decider = decider
        self._query = query
        self._lookback = lookback
        self._state = decider.initial()
        self._since = ""
        self._found: dict[tuple[str, str], list[RecordedEvent]] = {}
        """The events of each command, by its id and stream."""
        self._versions: dict[str, Expectation] = {}
        """What streams were searched up to for commands that may be repeated."""

    async def refresh(self) -> None:
        """See `Held.refresh`."""
        seen = await self._store.query(self._query)
        state, found = self._decider.initial(), dict[tuple[str, str], list[RecordedEvent]]()
        for event in seen.events:
            state = self._decider.evolve(state, self._decider.types.decode(event))
            if id_ := command_of(event):
                found.setdefault((id_, event.stream), []).append(event)
        self._state, self._since, self._found = state, seen.token, found
        self._versions = {}

    def may_join(self, batch: Sequence[Order], order: Order, /) -> bool:
        """See `Held.may_join`: each command has a stream of its own."""
        several = Capability.SESSIONS in self._store.capabilities
        return several or batch[0].stream == order.stream

    async def earlier(self, order: Order) -> CommandResult[S] | None:
        """See `Held.earlier`: the query need not match what the command itself has appended."""
        known = self._found.get((str(order.id), order.stream), ())
        version, events = await search(self._store, order, self._lookback, known)
        self._versions.setdefault(order.stream, version)
        if not events:
            return None
        loaded = AggregateResult(self._state, version, True)  # noqa: FBT003  # a field
        return applied_before(order, loaded, events)

    def decide(self, order: Order) -> Decision[S]:
        """See `Held.decide`: the version becomes known when it is written."""
        events, self._state = _decide(self._decider, order, self._state)
        return Decision(order, CommandResult("executed", self._state, 0, events or (), None))

    async def commit(self, decisions: Sequence[Decision[S]]) -> list[CommandResult[S]] | None:
        """See `Held.commit`."""
        written: dict[str, list[NewEvent]] = {one.order.stream: [] for one in decisions}
        for one in decisions:
            written[one.order.stream] += one.result.events
        versions, position, deduplicated = await self._write(written)
        if deduplicated and any(one.order.repeatable for one in decisions):
            return None
        left = Counter({stream: len(events) for stream, events in written.items()})
        results: list[CommandResult[S]] = []
        for one in decisions:
            stream = one.order.stream
            left[stream] -= len(one.result.events)
            result = replace(one.result, version=versions[stream] - left[stream])
            results.append(_placed(result, position))
        return results

    async def _write(
        self, written: Mapping[str, Sequence[NewEvent]]
    ) -> tuple[dict[str, int], int | None, bool]:
        """Append to all streams in one commit; return their versions, and the last position."""
        store = self._store
        some = {stream: events for stream, events in written.items() if events}
        versions: dict[str, int] = {}
        position, deduplicated = None, False
        if len(some) == 1:
            ((stream, events),) = some.items()
            expected = self._versions.get(stream, ANY)
            appended = await store.append(
                stream, events, expected=expected, unless=self._query, since=self._since
            )
            versions[stream], position = appended.version, appended.position
            deduplicated = appended.deduplicated
        elif some:
            async with store.session() as session:
                for stream, events in some.items():
                    expected = self._versions.get(stream, ANY)
                    appended = await session.append(
                        stream, events, expected=expected, unless=self._query, since=self._since
                    )
                    versions[stream] = appended.version
            position = session.position
        for stream in written.keys() - some.keys():
            versions[stream] = (await store.read(stream, max_count=0)).version
        return versions, position, deduplicated


class _State(Struct, Generic[S], frozen=True):
    """A state, and the version that it is of."""

    state: S
    version: int


class _Known:
    """The version of the first event of each command; the oldest are forgotten in the end."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def note(self, id_: str, version: int) -> None:
        """Note that an event of a command has a version."""
        self._first[id_] = min(version, self._first.get(id_, version))
        if len(self._first) > MAX_KNOWN:
            del self._first[next(iter(self._first))]

    def first(self, id_: str) -> int | None:
        """Return the version of its first event; None if the command is not known."""
        return self._first.get(id_)


class _NotingCommands(Noting[E]):
    """Decodes for a fold, and notes which commands its events are of."""

    def __init__(self, types: EventCodec[E], known: _Known) -> None:
        super().__init__(types)
        self._known = known

    def note(self, event: RecordedEvent) -> None:
        """See `Noting.note`: the command is known from now on."""
        if id_ := command_of(event):
            self._known.note(id_, event.version)


def _decide(decider: Decider[S, C, E], order: Order, state: S) -> tuple[list[NewEvent], S]:
    """Return what is to be appended for a command, and the state after that."""
    decided = checked(decider.decide(order.command, state))
    events = events_of(order, decided, decider.types, current_context().metadata)
    for event in decided:
        state = decider.evolve(state, event)
    return events, state


def _placed(result: CommandResult[S], position: int | None) -> CommandResult[S]:
    return replace(result, position=position) if result.events else result
