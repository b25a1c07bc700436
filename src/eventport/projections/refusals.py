"""What a projection or its checkpoint store refuses."""

from __future__ import annotations

from typing import Final

from eventport.errors import EventportError, StoreFencedError
from eventport.events import RecordedEvent


class CheckpointMismatchError(EventportError):
    """A checkpoint does not fit the events of the store; going on would skip some of them."""

    def __init__(self, projection: object, reason: str) -> None:
        super().__init__(projection, reason)
        self.projection = projection
        """The projection's name and generation."""
        self.reason = reason
        """What does not fit."""

    def __str__(self) -> str:
        return (
            f"projection {self.projection}: {self.reason}; nothing was handled. Give the "
            "projection a higher generation, which builds it anew from this store, or, if you "
            "know up to where the read model is right, call `reset` of the checkpoint store"
        )


class LeaseLostError(EventportError):
    """Another runner has taken over; the current batch was rolled back."""

    def __init__(self, projection: object) -> None:
        super().__init__(projection)
        self.projection = projection
        """The projection's name and generation."""

    def __str__(self) -> str:
        return f"projection {self.projection}: another runner has taken over"


ENDS: Final = (LeaseLostError, StoreFencedError)
"""What is no fault of an event, and does not pass: another runner goes on, here or elsewhere."""


class AlreadyHandledError(EventportError):
    """The checkpoint is there already: an earlier try took effect, and its answer was lost."""


class NoDeadLetterError(EventportError, LookupError):
    """A projection has given up no event at this position, or it was resolved."""

    def __init__(self, projection: object, position: int) -> None:
        super().__init__(projection, position)
        self.projection = projection
        """The projection's name and generation."""
        self.position = position
        """The position asked for."""

    def __str__(self) -> str:
        return (
            f"projection {self.projection}: no dead letter at position {self.position}; "
            "list those that exist"
        )


class PartitionsChangedError(EventportError):
    """A generation of a projection was begun in another number of parts."""

    def __init__(self, projection: object, kept: int, asked: int) -> None:
        super().__init__(projection, kept, asked)
        self.projection = projection
        """The projection's name and generation."""
        self.kept = kept
        """In how many parts it was begun; 1 if it was not divided."""
        self.asked = asked
        """In how many parts it was to be run."""

    def __str__(self) -> str:
        return (
            f"projection {self.projection} was begun with partitions={self.kept}, not "
            f"{self.asked}; nothing was handled. Raise its generation to change the number"
        )


class ProjectionStoppedError(EventportError):
    """A projection met an event that it cannot handle; the cause is what its handler raised."""

    def __init__(
        self, projection: object, event: RecordedEvent, attempts: int, failure: str
    ) -> None:
        super().__init__(projection, event, attempts, failure)
        self.projection = projection
        """The projection's name and generation."""
        self.event = event
        """The event; everything before it has been handled."""
        self.attempts = attempts
        """How often it was tried."""
        self.failure = failure
        """What kind of error it was, and where; its text, which may hold data, is in the cause."""

    def __repr__(self) -> str:
        return f"<ProjectionStoppedError: {self}>"

    def __str__(self) -> str:
        return (
            f"projection {self.projection} stopped at position {self.event.position}, before "
            f"event {self.event.version} of stream {self.event.stream!r}, a {self.event.type!r}: "
            f"its handler failed {self.attempts} times, at last with {self.failure}; fix the "
            "handler and run it again, or use on_poison='dead_letter'"
        )
