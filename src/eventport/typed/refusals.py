"""The errors of typed events: types, versions and data that a program does not know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventport.errors import EventportError
from eventport.events import RecordedEvent


class UnknownEventTypeError(EventportError, LookupError):
    """An event's type, or the class of an event, is not among those registered."""

    def __init__(self, type_: str, known: Iterable[str]) -> None:
        super().__init__(type_, tuple(sorted(known)))
        self.type = type_
        """The type that is not registered."""
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
