"""What a reactor refuses."""

from __future__ import annotations

from eventport.errors import EventportError


class ReactionLoopError(EventportError):
    """An event comes at the end of a long chain of reactions, which seems to have no end."""

    def __init__(self, reactor: str, stream: str, version: int, depth: int) -> None:
        super().__init__(reactor, stream, version, depth)
        self.reactor = reactor
        """The reactor's name."""
        self.stream = stream
        """The stream of the event."""
        self.version = version
        """The version of the event."""
        self.depth = depth
        """How many reactions led to it, one by another."""

    def __str__(self) -> str:
        return (
            f"reactor {self.reactor!r}: event {self.version} of stream {self.stream!r} comes of a "
            f"chain of {self.depth} reactions: it seems to react to its own events without end. "
            "Let the handler end the chain, or schedule the next step, which begins a new one"
        )


class UnknownTimeoutError(EventportError, LookupError):
    """A reactor has no handler for a timeout of this name."""

    def __init__(self, reactor: str, name: str) -> None:
        super().__init__(reactor, name)
        self.reactor = reactor
        """The reactor's name."""
        self.name = name
        """The timeout's name."""

    def __str__(self) -> str:
        return (
            f"reactor {self.reactor!r} has no handler for the timeout {self.name!r}: register one "
            "with `on_timeout`"
        )
