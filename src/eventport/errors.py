"""The errors of the port and the base of all others; a driver's error is the cause of one.

The toolkit's errors stand with what raises them.
"""

from __future__ import annotations

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


class InvalidArgumentError(EventportError, ValueError):
    """An argument has a value that no store accepts; the message names it and the remedy."""


class InvalidArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument has the wrong type."""


class InvalidStreamNameError(InvalidArgumentError):
    """A name breaks the rules: non-empty text, at most 500 UTF-8 bytes, no control characters.

    A stream's name must not start with ``$`` either, which is reserved for servers.
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


class StoreFencedError(EventportError):
    """A fence keeps all appends away from this store: its events are moved, or have moved.

    Nothing was written, and reads go on. The message is what the fence says: where the events are.
    """


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
    """A URL, an option or a configuration file does not lead to a store."""


class EscapedCancellationError(EventportError):
    """Code that was called raised a cancellation, but nobody had cancelled the task that called it.

    Awaiting a task that was cancelled is enough.
    """

    def __str__(self) -> str:
        return (
            "a cancellation came out of it that was not its caller's: what it awaited had been "
            "cancelled"
        )
