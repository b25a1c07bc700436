"""What a reactor's handler does about an event, by calls that take effect once."""

from __future__ import annotations

import json

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID, uuid5

from msgspec.structs import replace

from eventport.commands import CommandHandler, CommandResult
from eventport.context import current_context
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import EventStore
from eventport.reactors.once import Once
from eventport.reactors.refusals import UnknownTimeoutError
from eventport.reactors.timeouts import Timeouts
from eventport.validation import check_stream, show


S = TypeVar("S")
C = TypeVar("C")


class Reaction:
    """One event, and what is done about it.

    Each call has an id, made of the event's id, the reactor's name, and the call: its kind, its
    stream, and whether it is the first one, the second one and so on. When the event is handled
    again, the call has the same id, and no second effect. Where a handler's calls for one stream
    may differ from one time to the next, give each of them a `key` of its own instead.
    """

    def __init__(
        self,
        store: EventStore,
        event: RecordedEvent,
        reactor: str,
        once: Once,
        timeouts: Timeouts,
        names: frozenset[str],
    ) -> None:
        self.store: Final = store
        """The store, to read from."""
        self.event: Final = event
        """The event."""
        self._reactor = reactor
        self._once = once
        self._timeouts = timeouts
        self._names = names
        self._calls: Counter[tuple[str, ...]] = Counter()

    def id_for(self, *key: str) -> UUID:
        """Return an id that is the same each time that this event is handled.

        Give it to what is outside of the store, such as a payment service, so that a second
        request with this id has no effect.
        """
        return uuid5(self.event.id, json.dumps([self._reactor, *key]))

    async def handle(
        self,
        handler: CommandHandler[S, C, Any],
        stream: str,
        command: C,
        *,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> CommandResult[S]:
        """Handle a command, once; see `CommandHandler.handle`.

        Errors of the command's rules go to the caller, who may react to them otherwise.
        """
        id_ = self._id("command", key, stream)
        return await handler.handle(stream, command, id=id_, metadata=metadata)

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, key: str | None = None
    ) -> bool:
        """Append events to a stream, once, whatever its version; return whether it did so now.

        The events get ids that follow from this one's, and what is bound as metadata.
        """
        id_ = self._id("append", key, check_stream(stream))
        bound = current_context().metadata
        new = [
            replace(
                event,
                id=uuid5(id_, str(place)) if place else id_,
                metadata={**bound, **event.metadata},
            )
            for place, event in enumerate(events)
        ]

        async def make() -> Sequence[NewEvent]:
            return new

        return await self._once.append(stream, id_, make, after=self.event.position)

    async def schedule(
        self,
        name: str,
        key: str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        data: Any = None,
    ) -> None:
        """Let the reactor's handler of timeouts run at a time, unless it is cancelled before.

        It takes the place of one of the same name and key that is scheduled and not handled.

        Args:
            name: What `Reactor.on_timeout` has registered.
            key: What it is for, such as the name of an order's stream.
            after: How long after the event was recorded.
            at: When instead: an aware time.
            data: JSON for the handler.

        Raises:
            UnknownTimeoutError: there is no handler for this name.
        """
        if name not in self._names:
            raise UnknownTimeoutError(self._reactor, name)
        due = self._due(after, at)
        id_ = self._id("schedule", None, name, key)
        await self._timeouts.schedule(self.event, id_, (name, key), due, data)

    async def cancel(self, name: str, key: str) -> None:
        """Cancel what is scheduled; nothing happens if nothing is.

        A timeout that was reached, but whose turn has not come yet, is not handled any more.

        Raises:
            UnknownTimeoutError: there is no handler for this name.
        """
        if name not in self._names:
            raise UnknownTimeoutError(self._reactor, name)
        id_ = self._id("cancel", None, name, key)
        await self._timeouts.cancel(self.event, id_, (name, key))

    def _due(self, after: timedelta | None, at: datetime | None) -> datetime:
        if (after is None) == (at is None):
            raise InvalidArgumentError("schedule takes `after` or `at`, and not both")
        if after is not None:
            if not isinstance(cast("object", after), timedelta):
                message = f"after must be a datetime.timedelta, not {show(after)}"
                raise InvalidArgumentTypeError(message)
            return self.event.recorded_at + after
        if not isinstance(at, datetime) or at.tzinfo is None:
            message = f"at must be a datetime with a time zone, not {show(at)}"
            raise InvalidArgumentTypeError(message)
        return at

    def _id(self, kind: str, key: str | None, *about: str) -> UUID:
        call = (kind, *about)
        if key is not None:
            return self.id_for(*call, "key", key)
        self._calls[call] += 1
        return self.id_for(*call, str(self._calls[call]))
