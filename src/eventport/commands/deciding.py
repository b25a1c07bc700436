"""What a decider decides for one command, and how its events are known again."""

from __future__ import annotations

import json

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Generic, Literal, TypeVar, cast
from uuid import UUID, uuid5

from msgspec import Struct

from eventport.boundaries import Query
from eventport.command_log.records import CommandIdReusedError, as_appended, canonical
from eventport.context import COMMAND_HASH, COMMAND_ID, CORRELATION_ID
from eventport.errors import InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.folding import EventCodec, Fold
from eventport.protocols import Streams
from eventport.results import AggregateResult
from eventport.typed.conversion import conversion_of
from eventport.validation import MAX_INT


S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

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
    `Capability.CONDITIONS`, and the loader is not asked.
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
    """The global position of its last event; None if nothing was written, or not yet.

    With a gate that of the last event of the commit, which may hold other commands, too.
    """


class Noting(ABC, Generic[E]):
    """Decodes for a fold, and notes the events that it decodes."""

    def __init__(self, types: EventCodec[E]) -> None:
        self._types = types
        self.first = MAX_INT
        """The lowest version that was decoded; what is below it has not been seen."""

    @abstractmethod
    def note(self, event: RecordedEvent) -> None:
        """Note an event."""

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
        """Note an event, and decode it."""
        self.first = min(self.first, event.version)
        self.note(event)
        return self._types.decode(event)


class Watching(Noting[E]):
    """Decodes for a fold, and searches its events for those of one command."""

    def __init__(self, types: EventCodec[E], command_id: UUID) -> None:
        super().__init__(types)
        self._command_id = str(command_id)
        self.found: list[RecordedEvent] = []
        """The events of the command."""

    def note(self, event: RecordedEvent) -> None:
        """See `Noting.note`: those of the command are kept."""
        if self.is_wanted(event):
            self.found.append(event)

    def is_wanted(self, event: RecordedEvent) -> bool:
        """Return whether an event is of the command."""
        return command_of(event) == self._command_id


class Order(Struct, frozen=True):
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


def command_of(event: RecordedEvent) -> str | None:
    """Return the id of the command that an event is of."""
    id_ = event.metadata.get(COMMAND_ID)
    return id_ if isinstance(id_, str) else None


async def search(
    streams: Streams, order: Order, lookback: int, known: Iterable[RecordedEvent]
) -> tuple[int, list[RecordedEvent]]:
    """Return the version of a command's stream, and the events that the command has there.

    Args:
        streams: Where to look.
        order: The command.
        lookback: How many of the stream's last events are searched.
        known: Those of its events that were found otherwise.
    """
    page = await streams.read(order.stream, backwards=True, max_count=lookback)
    found = {event.version: event for event in known}
    found |= {one.version: one for one in page.events if command_of(one) == str(order.id)}
    return page.version, [found[version] for version in sorted(found)]


def applied_before(
    order: Order, loaded: AggregateResult[S], events: Sequence[RecordedEvent]
) -> CommandResult[S]:
    """Return what an earlier delivery did, if that was of the same command."""
    kept = events[-1].metadata.get(COMMAND_HASH) if events else None
    if kept is not None and order.hash not in {None, kept}:
        raise CommandIdReusedError(order.stream, order.id)
    new = [as_appended(one) for one in events]
    position = (events[-1].position or None) if events else None
    return CommandResult("already applied", loaded.state, loaded.version, new, position)


def checked(decided: Iterable[E]) -> list[E]:
    """Return what a decider returned as a list, or raise if it is nothing of the kind."""
    if not isinstance(cast("object", decided), Iterable):
        message = (
            f"decide must return a list of events, which may be empty, not {type(decided).__name__}"
        )
        raise InvalidArgumentTypeError(message)
    return list(decided)


def events_of(
    order: Order, decided: Sequence[E], types: EventCodec[E], bound: Mapping[str, Any]
) -> list[NewEvent]:
    """Return what was decided as events to append, which say what command they are of.

    Args:
        order: The command.
        decided: What was decided.
        types: Makes the events.
        bound: The metadata of the context that is bound.
    """
    id_ = str(order.id)
    metadata = {
        CORRELATION_ID: id_,
        **bound,
        **order.metadata,
        COMMAND_ID: id_,
    }
    if (hash_ := order.hash) is not None:
        metadata[COMMAND_HASH] = hash_
    return [
        types.new(event, metadata=metadata, id=uuid5(order.id, f"{index}/{order.stream}"))
        for index, event in enumerate(decided)
    ]
