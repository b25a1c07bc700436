"""Every error that eventport raises; what a driver raises is chained below one of these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from eventport.events import RecordedEvent
    from eventport.expectations import Expectation


class EventportError(Exception):
    """The base of all errors of this toolkit."""


class ConcurrencyError(EventportError):
    """An expectation about a stream's version did not hold; nothing was written or returned.

    Read the stream again, decide again, and append with the new version.
    """

    def __init__(self, stream: str, expected: Expectation, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream = stream
        """The stream whose version was not the expected one."""
        self.expected = expected
        """What the caller expected: a version, or one of the named expectations."""
        self.actual = actual
        """The version that the stream really had; 0 if it did not exist."""

    def __str__(self) -> str:
        actual = f"is at version {self.actual}" if self.actual else "does not exist"
        return f"stream {self.stream!r}: expected {self.expected!r}, but it {actual}"


class AggregateNotFoundError(EventportError):
    """There is no aggregate of this id, or there was none yet at the version or time asked for."""

    def __init__(self, category: str, aggregate_id: str) -> None:
        super().__init__(category, aggregate_id)
        self.category = category
        """What it would be, such as ``"order"``."""
        self.aggregate_id = aggregate_id
        """The id that was asked for."""

    def __str__(self) -> str:
        return f"there is no {self.category} {self.aggregate_id!r}"


class AggregateExistsError(EventportError):
    """An aggregate was to be added, but there is one of this id already; nothing was written."""

    def __init__(self, category: str, aggregate_id: str) -> None:
        super().__init__(category, aggregate_id)
        self.category = category
        """What it is, such as ``"order"``."""
        self.aggregate_id = aggregate_id
        """The id that was to be added."""

    def __str__(self) -> str:
        return f"{self.category} {self.aggregate_id!r} exists already"


class DuplicateKeyError(EventportError):
    """Somebody else holds a key that only one owner can hold; nothing of the change was written."""

    def __init__(self, name: str, key: str, owner: str, *, hidden: bool = False) -> None:
        super().__init__(name, key, owner)
        self.name = name
        """What the keys are, such as ``"email"``."""
        self.key = key
        """The value that was claimed."""
        self.owner = owner
        """Who holds it."""
        self.hidden = hidden
        """Whether the value is kept out of the message, because only its hash is stored."""

    def __str__(self) -> str:
        key = "this value" if self.hidden else repr(self.key)
        return f"{self.name}: {key} is taken: it belongs to {self.owner!r}"

    def __repr__(self) -> str:
        return f"<DuplicateKeyError: {self}>"


class InvalidArgumentError(EventportError, ValueError):
    """An argument has a value that no store accepts; the message names it and the remedy."""


class InvalidArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument has the wrong type."""


class InvalidStreamNameError(InvalidArgumentError):
    """A name breaks the rules: non-empty text, at most 500 UTF-8 bytes, no control characters.

    A stream's name must not start with ``$`` either, which is reserved for the toolkit.
    """


class InvalidEventError(InvalidArgumentError):
    """An event cannot be stored so that it comes out equal; nothing of its append was written."""


class InvalidEventTypeError(InvalidEventError, InvalidStreamNameError):
    """The type name of an event breaks the rules for names."""


class PayloadTooLargeError(EventportError):
    """The backend refuses an append of this size; nothing of it was written."""


class InlineProjectionError(EventportError):
    """An inline handler failed, so nothing of its commit was written; its error is the cause."""


class CorruptEventError(EventportError):
    """A stored event cannot be decoded: something other than eventport has written it."""


class NotSupportedError(EventportError):
    """This backend cannot do what was asked; nothing was written. The message says why."""


class StoreClosedError(EventportError):
    """The store has been closed, or the session has ended."""


class HistoryReplacedError(EventportError):
    """What a subscription has seen is not in the store any more, or never was.

    A failover lost commits, a backup was restored, or the position is that of another store. To
    resume all the same, find the last event that both know, and subscribe after its position.
    """


class WrongEventLoopError(EventportError):
    """A store was used in a forked child, or in another event loop than the one it belongs to.

    Nothing was done. Open a store in each process and in each event loop.
    """


class StoreUnavailableError(EventportError):
    """The backend cannot be reached, or the outcome of a commit could not be learned in time."""


class IncompatibleStoreError(EventportError):
    """What was found at the given place is not a store that this version can work on.

    It was made by a newer version, or belongs to another program; it was not touched.
    """


class ConfigurationError(EventportError, ValueError):
    """A store cannot be opened from what its URL, its options or a file say."""


class UnknownEventTypeError(EventportError, LookupError):
    """An event's type, or the class of an event, is not among those registered."""

    def __init__(self, type_: str, known: Iterable[str]) -> None:
        super().__init__(type_, tuple(sorted(known)))
        self.type = type_
        """The type that nobody registered."""
        self.known = tuple(sorted(known))
        """The types that are registered."""

    def __str__(self) -> str:
        known = ", ".join(map(repr, self.known)) or "none"
        return f"no class is registered for events of type {self.type!r}; registered: {known}"


class EventVersionError(EventportError):
    """A stored event has a version that this program does not know: a newer one wrote it."""

    def __init__(self, event: RecordedEvent, version: Any, known: int) -> None:
        super().__init__(event, version, known)
        self.event = event
        """The event as it is stored."""
        self.version = version
        """The version of its data."""
        self.known = known
        """The newest version that is registered."""

    def __str__(self) -> str:
        # What is no number may be anything, event data among them.
        version = self.version if type(self.version) is int else f"<{type(self.version).__name__}>"
        return (
            f"event {self.event.version} of stream {self.event.stream!r} is a {self.event.type!r} "
            f"of version {version}, but this program knows versions 1 to {self.known}: "
            "run the program that wrote it, or register the newer version"
        )

    def __repr__(self) -> str:
        """Leave out the event, whose data may be confidential."""
        return f"<EventVersionError: {self}>"


class EventDataError(EventportError):
    """The data of a stored event does not become an instance of the class registered for it."""

    def __init__(self, event: RecordedEvent, reason: str) -> None:
        super().__init__(event, reason)
        self.event = event
        """The event as it is stored."""
        self.reason = reason
        """What is wrong with it."""

    def __str__(self) -> str:
        return (
            f"event {self.event.version} of stream {self.event.stream!r}, a {self.event.type!r}: "
            f"{self.reason}"
        )

    def __repr__(self) -> str:
        """Leave out the event, whose data may be confidential."""
        return f"<EventDataError: {self}>"


class LeaseLostError(EventportError):
    """Somebody else runs the projection now; what was being done for it has been undone."""

    def __init__(self, projection: object) -> None:
        super().__init__(projection)
        self.projection = projection
        """The projection's name and generation."""

    def __str__(self) -> str:
        return f"projection {self.projection}: another runner has taken over"


class NoDeadLetterError(EventportError, LookupError):
    """A projection has given up no event at this position, or it has been dealt with."""

    def __init__(self, projection: object, position: int) -> None:
        super().__init__(projection, position)
        self.projection = projection
        """The projection's name and generation."""
        self.position = position
        """The position asked for."""

    def __str__(self) -> str:
        return (
            f"projection {self.projection}: no dead letter at position {self.position}; "
            "list those that there are"
        )


class ProjectionStoppedError(EventportError):
    """A projection met an event that it cannot handle; the cause is what its handler raised."""

    def __init__(self, projection: object, event: RecordedEvent, attempts: int) -> None:
        super().__init__(projection, event, attempts)
        self.projection = projection
        """The projection's name and generation."""
        self.event = event
        """The event; everything before it has been handled."""
        self.attempts = attempts
        """How often it was tried."""

    def __str__(self) -> str:
        return (
            f"projection {self.projection} stopped at position {self.event.position}, before "
            f"event {self.event.version} of stream {self.event.stream!r}, a {self.event.type!r}: "
            f"its handler failed {self.attempts} times, at last with: {self.__cause__!r}; mend "
            "the handler and run it again, or let such events go to the dead letters"
        )
