"""What a projection is: a name, the events it wants, and what it does with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, cast, get_args, overload
from zlib import crc32

from msgspec import Struct

from eventport._concurrency.cancelling import own_cancellation_only
from eventport.boundaries import Query
from eventport.context import reacting_to
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import (
    CheckpointStore,
    KeepsDocuments,
    ProjectionId,
    part_ids,
)
from eventport.projections.retrying import Retries
from eventport.toolkit_streams import is_toolkit_stream
from eventport.transactions import DocumentWriter, RefusedDocuments
from eventport.validation import check_event_type, check_int, check_prefix, check_stream, show


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from eventport.typed import EventTypes

    C = TypeVar("C", default=None)
    D = TypeVar("D")
else:
    from typing import TypeVar  # a default, which only type checkers see, takes Python 3.13

    C = TypeVar("C")
    D = TypeVar("D")


OnPoison: TypeAlias = Literal["stop", "dead_letter"]
"""What happens to an event that cannot be handled: the run ends, or it becomes a dead letter."""


NO_DOCUMENTS: Final = RefusedDocuments(
    "these checkpoints are not in a database that keeps documents in the same transaction: open "
    "checkpoints in memory, a file of SQLite, PostgreSQL or a replica set of MongoDB"
)


class ProjectionContext(Struct, Generic[C], frozen=True):
    """What a handler is called with beside the event: where to write."""

    connection: C
    """The connection whose transaction also moves the checkpoint; None if there is none."""
    generation: int
    """Which generation of the read model is being written."""
    documents: DocumentWriter = NO_DOCUMENTS
    """The documents of read models, in the same transaction; see `ReadModel.within`."""

    @property
    def suffix(self) -> str:
        """A suffix for names of tables, so that each generation has its own: ``_2``."""
        return f"_{self.generation}"


Handler: TypeAlias = Callable[[RecordedEvent[D], ProjectionContext[C]], Awaitable[None]]
"""Handles one event."""

BatchHandler: TypeAlias = Callable[
    [Sequence[RecordedEvent[D]], ProjectionContext[C]], Awaitable[None]
]
"""Handles events in the order of the store: those that are ready, at most the batch size."""

PartitionKey: TypeAlias = Callable[[RecordedEvent], str]
"""Returns the key of an event, the same one each time; events of one key are handled in order."""

Preparation: TypeAlias = Callable[[ProjectionContext[C]], Awaitable[None]]
"""Makes what the handlers write to, if it does not exist."""


def by_stream(event: RecordedEvent) -> str:
    """Return the stream of an event, which is its key if no other is given."""
    return event.stream


class Projection(Generic[C]):
    """A read model: which events it is made of, and what is done with them.

    ``Projection[Connection]("cases")`` has handlers that get a connection of that type.

    Args:
        name: What its checkpoint is kept under.
        generation: Raise it to build the read model anew, beside the one that is in use. See
            `Runner` for what happens then.
        types: The program's event classes, if handlers are to be registered for classes.
        prefix: Only events of streams whose name starts with this. The toolkit's own streams are
            left out, unless the prefix leads to them.
        query: Only events that match this, such as those with a tag.
        batch_size: How many events are handled in one transaction, at most.
        on_poison: What happens to an event that cannot be handled.
        retries: How often to try, and how long to wait in between.
        partitions: Into how many parts to divide it, which handle events at the same time, in any
            number of processes; a `PartitionedRunner` runs them. To change the number or the key,
            raise the generation.
        partition_by: Returns the key of an event, the same one each time. Events of one key are
            handled by one part, in order. By default it is the stream.
    """

    def __init__(
        self,
        name: str,
        *,
        generation: int = 1,
        types: EventTypes[Any] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
        batch_size: int = 500,
        on_poison: OnPoison = "stop",
        retries: Retries | None = None,
        partitions: int = 1,
        partition_by: PartitionKey = by_stream,
    ) -> None:
        self.id: Final = ProjectionId(
            check_stream(name), check_int("generation", generation, least=1)
        )
        """Its name and its generation."""
        if on_poison not in get_args(OnPoison):
            message = f"on_poison must be one of {get_args(OnPoison)}, not {show(on_poison)}"
            raise InvalidArgumentError(message)
        self.prefix: Final = check_prefix(prefix)
        """How the names of its streams begin; None for all."""
        if query is not None and not isinstance(cast("object", query), Query):
            message = f"a query is Query.of(Match(...)) or Query.all(), not {show(query)}"
            raise InvalidArgumentTypeError(message)
        self.query: Final = query
        """Which events are for it, besides their types and streams; None for all."""
        self.batch_size: Final = check_int("batch_size", batch_size, least=1)
        """How many events are handled at once, at most."""
        self.on_poison: Final[OnPoison] = on_poison
        """What happens to an event that cannot be handled."""
        self.retries: Final = retries or Retries()
        """How often to try."""
        self.partitions: Final = check_int("partitions", partitions, least=1)
        """Into how many parts it is divided; 1 if it is not."""
        self.parts: Final = part_ids(self.id, self.partitions)
        """What the checkpoints of its parts are kept under: its own id if it is not divided."""
        self._key = partition_by
        self._types = types
        self._classes: set[str] = set()
        self._handlers: dict[str, Handler[Any, C]] = {}
        self._batch: tuple[BatchHandler[Any, C], frozenset[str] | None] | None = None
        self._prepare: Preparation[C] | None = None

    def __repr__(self) -> str:
        """Show the name and the generation."""
        return f"<Projection: {self.id}>"

    @overload
    def on(self, type_: type[D], /) -> Callable[[Handler[D, C]], Handler[D, C]]: ...

    @overload
    def on(self, *types: str | type) -> Callable[[Handler[Any, C]], Handler[Any, C]]: ...

    def on(self, *types: Any) -> Callable[[Handler[Any, C]], Handler[Any, C]]:
        """Register a handler, as a decorator, for events of some types.

        Args:
            types: Names of types; or classes, whose events the handler gets with their data as
                instances.
        """
        if not types:
            raise InvalidArgumentError("name the types of event to handle; on_batch takes all")
        names = self._names(types)

        def register(handler: Handler[Any, C]) -> Handler[Any, C]:
            self._refuse_both(self._batch)
            for name in names:
                if name in self._handlers:
                    message = f"{self!r} has a handler for {name!r} already"
                    raise InvalidArgumentError(message)
                self._handlers[name] = handler
            return handler

        return register

    @overload
    def on_batch(self, type_: type[D], /) -> Callable[[BatchHandler[D, C]], BatchHandler[D, C]]: ...

    @overload
    def on_batch(
        self, *types: str | type
    ) -> Callable[[BatchHandler[Any, C]], BatchHandler[Any, C]]: ...

    def on_batch(self, *types: Any) -> Callable[[BatchHandler[Any, C]], BatchHandler[Any, C]]:
        """Register one handler, as a decorator, that gets many events at once.

        Args:
            types: As for `on`; none for events of all types, as they are stored.
        """
        names = frozenset(self._names(types)) if types else None

        def register(handler: BatchHandler[Any, C]) -> BatchHandler[Any, C]:
            self._refuse_both(self._batch or self._handlers)
            self._batch = handler, names
            return handler

        return register

    def prepare(self, preparation: Preparation[C]) -> Preparation[C]:
        """Register, as a decorator, what makes the tables that the handlers write to.

        It runs in a transaction of its own each time that a runner gets the lease, so it must
        tolerate that they exist. For a divided projection it runs once in each process that
        starts, before the parts.
        """
        self._prepare = preparation
        return preparation

    @property
    def event_types(self) -> frozenset[str] | None:
        """The names of the types of event that it handles; None for all.

        Raises:
            InvalidArgumentError: it handles none.
        """
        if self._batch is not None:
            return self._batch[1]
        if not self._handlers:
            message = f"{self!r} has no handler: register one with `on` or `on_batch`"
            raise InvalidArgumentError(message)
        return frozenset(self._handlers)

    def wants(self, event: RecordedEvent) -> bool:
        """Return whether an event of its types is for it, and not one of the toolkit's own."""
        asked = self.prefix is not None and is_toolkit_stream(self.prefix)
        return asked or not is_toolkit_stream(event.stream)

    def part_of(self, event: RecordedEvent) -> int:
        """Return the number of the part, from 0, that handles an event.

        Raises:
            InvalidArgumentTypeError: the key is no text. What `partition_by` raises is passed on.
        """
        if self.partitions == 1:
            return 0
        key = cast("object", self._key(event))
        if not isinstance(key, str):
            message = f"partition_by of {self!r} must return text, not a {type(key).__name__}"
            raise InvalidArgumentTypeError(message)
        # Python's own hash differs between processes.
        return crc32(key.encode()) % self.partitions

    def context(self, checkpoints: CheckpointStore[C], connection: C) -> ProjectionContext[C]:
        """Return what its handlers get in a transaction of a checkpoint store."""
        documents: DocumentWriter = NO_DOCUMENTS
        if isinstance(checkpoints, KeepsDocuments):
            documents = checkpoints.documents(connection)
        return ProjectionContext(connection, self.id.generation, documents)

    async def set_up(self, target: ProjectionContext[C]) -> None:
        """Do what was registered with `prepare`."""
        if self._prepare is not None:
            with own_cancellation_only():
                await self._prepare(target)

    async def handle(self, events: Sequence[RecordedEvent], target: ProjectionContext[C]) -> None:
        """Give events to the handlers, in their order.

        What a handler of single events does is due to its event, as with `reacting_to`. A batch
        has no single cause: its handler calls `reacting_to` for the event that it means.

        Raises:
            EscapedCancellationError: a handler let out a cancellation that is not this task's.
        """
        typed = [self._typed(event) for event in events]  # all, before anything is written
        with own_cancellation_only():
            if self._batch is None:
                for event in typed:
                    with reacting_to(event):
                        await self._handlers[event.type](event, target)
            else:
                await self._batch[0](typed, target)

    def _typed(self, event: RecordedEvent) -> RecordedEvent:
        if self._types is not None and event.type in self._classes:
            return self._types.typed(event)
        return event

    def _names(self, types: Sequence[Any]) -> list[str]:
        names: list[str] = []
        for type_ in types:
            if not isinstance(type_, type):
                names.append(check_event_type(type_))
                continue
            if self._types is None:
                message = f"{self!r} does not know what {type_.__name__} is: pass it types="
                raise InvalidArgumentTypeError(message)
            own = sorted(self._types.names_of(type_))
            names += own
            self._classes.update(own)
        return names

    def _refuse_both(self, there: object) -> None:
        if there:
            message = f"{self!r} has handlers already: one for batches, or one for each type"
            raise InvalidArgumentError(message)
