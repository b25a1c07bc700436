"""What a reactor is: a name, the events it wants, and what it does about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar, overload

from eventport.boundaries import Match, Query
from eventport.context import bind_context
from eventport.errors import InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.projections import Projection, ProjectionContext, Retries
from eventport.projections.projection import OnPoison
from eventport.protocols import EventStore
from eventport.reactors.once import Once
from eventport.reactors.reaction import Reaction
from eventport.reactors.refusals import ReactionLoopError, UnknownTimeoutError
from eventport.reactors.timeouts import REACHED, Timeout, Timeouts
from eventport.typed import EventTypes


D = TypeVar("D")

ReactionHandler: TypeAlias = Callable[[RecordedEvent[D], Reaction], Awaitable[None]]
"""Handles one event."""

TimeoutHandler: TypeAlias = Callable[[Timeout, Reaction], Awaitable[None]]
"""Handles a timeout whose time has come."""

DEPTH: Final = "reaction_depth"
"""The key in an event's metadata for how many reactions led to it, one by another."""

_DEEPEST: Final = 100
"""How many reactions may lead to each other; timeouts begin a new chain."""


class Reactor:
    """A process: which events it reacts to, and how.

    Args:
        name: What its checkpoint, its timeouts and the ids of its effects are kept under. Under
            another name it would do everything again.
        types: The program's event classes, if handlers are to be registered for classes.
        prefix: Only events of streams whose name starts with this.
        query: Only events that match this, such as those with a tag.
        batch_size: How many events are handled between two checkpoints, at most.
        on_poison: What happens to an event that cannot be handled.
        retries: How often to try, and how long to wait in between.
    """

    def __init__(
        self,
        name: str,
        *,
        types: EventTypes[Any] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
        batch_size: int = 20,
        on_poison: OnPoison = "stop",
        retries: Retries | None = None,
    ) -> None:
        self.types: Final = types
        """The program's event classes."""
        # It checks what is given, here and in `on`; each store gets one of its own.
        self.model: Final[Projection[Any]] = Projection(
            name,
            types=types,
            prefix=prefix,
            query=query,
            batch_size=batch_size,
            on_poison=on_poison,
            retries=retries,
        )
        """The projection that it is run as, without the store to react in."""
        self.name: Final = name
        """Its name."""
        self.handlers: Final[list[tuple[tuple[Any, ...], ReactionHandler[Any]]]] = []
        """What `on` has registered."""
        self.timeout_handlers: Final[dict[str, TimeoutHandler]] = {}
        """What `on_timeout` has registered, by name."""

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Reactor: {self.name}>"

    @overload
    def on(self, type_: type[D], /) -> Callable[[ReactionHandler[D]], ReactionHandler[D]]: ...

    @overload
    def on(self, *types: str | type) -> Callable[[ReactionHandler[Any]], ReactionHandler[Any]]: ...

    def on(self, *types: Any) -> Callable[[ReactionHandler[Any]], ReactionHandler[Any]]:
        """Register a handler, as a decorator, for events of some types.

        Args:
            types: Names of types; or classes, whose events the handler gets with their data as
                instances.
        """
        check = self.model.on(*types)

        def register(handler: ReactionHandler[Any]) -> ReactionHandler[Any]:
            check(_unbound)
            self.handlers.append((types, handler))
            return handler

        return register

    def on_timeout(self, name: str) -> Callable[[TimeoutHandler], TimeoutHandler]:
        """Register a handler, as a decorator, for the timeouts of a name."""

        def register(handler: TimeoutHandler) -> TimeoutHandler:
            if name in self.timeout_handlers:
                message = f"{self!r} has a handler for the timeout {name!r} already"
                raise InvalidArgumentError(message)
            self.timeout_handlers[name] = handler
            return handler

        return register

    def bind(self, store: EventStore) -> BoundReactor:
        """Return the projection that reacts in a store, such as for `eventport.projections.retry`.

        Raises:
            InvalidArgumentError: it has no handler.
        """
        return BoundReactor(self, store)


class BoundReactor(Projection[Any]):
    """A reactor with the store that it reads and writes."""

    def __init__(self, reactor: Reactor, store: EventStore) -> None:
        model = reactor.model
        query = model.query
        if query is not None and query.matches is not None:
            query = Query.of(*query.matches, Match(types=frozenset({REACHED})))
        super().__init__(
            reactor.name,
            types=reactor.types,
            query=query,
            batch_size=model.batch_size,
            on_poison=model.on_poison,
            retries=model.retries,
        )
        self._reactor = reactor
        self._store = store
        self.once: Final = Once(store)
        """Makes its appends."""
        self.timeouts: Final = Timeouts(store, reactor.name, self.once)
        """What it has scheduled."""
        _ = model.event_types  # refuses a reactor without a handler
        for types, handler in reactor.handlers:
            self.on(*types)(self._reacting(handler))
        self.on(REACHED)(self._on_timeout)

    def wants(self, event: RecordedEvent) -> bool:
        """Return whether an event of its types is for it: its own timeouts are."""
        if event.type == REACHED:
            return event.stream == self.timeouts.stream
        return super().wants(event) and event.stream.startswith(self._reactor.model.prefix or "")

    def _reacting(
        self, handler: ReactionHandler[Any]
    ) -> Callable[[RecordedEvent, ProjectionContext[Any]], Awaitable[None]]:
        async def react(event: RecordedEvent, _: ProjectionContext[Any]) -> None:
            found: object = event.metadata.get(DEPTH)
            depth = found if isinstance(found, int) else 0
            if depth >= _DEEPEST:
                raise ReactionLoopError(self._reactor.name, event.stream, event.version, depth)
            with bind_context(reaction_depth=depth + 1):
                await handler(event, self._reaction(event))

        return react

    async def _on_timeout(self, event: RecordedEvent, _: ProjectionContext[Any]) -> None:
        timeout = await self.timeouts.reached(event)
        if timeout is None:
            return
        handler = self._reactor.timeout_handlers.get(timeout.name)
        if handler is None:
            raise UnknownTimeoutError(self._reactor.name, timeout.name)
        with bind_context(reaction_depth=1):
            await handler(timeout, self._reaction(event))

    def _reaction(self, event: RecordedEvent) -> Reaction:
        names = frozenset(self._reactor.timeout_handlers)
        return Reaction(self._store, event, self._reactor.name, self.once, self.timeouts, names)


async def _unbound(event: RecordedEvent, _: ProjectionContext[Any]) -> None:
    """Stand for a handler in the projection that only checks."""
