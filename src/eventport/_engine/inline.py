"""Inline projections: what all backends share whose transactions can include them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from eventport._engine.codec import decode_commit
from eventport._engine.commits import Commit, Committed, Outcome
from eventport.errors import EventportError, InlineProjectionError, InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.validation import show


H = TypeVar("H", bound=Callable[..., object])


class InlineHandlers(Generic[H]):
    """The handlers of one store, in the order in which they run; false if there are none."""

    def __init__(self) -> None:
        self._handlers: tuple[H, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._handlers)

    def __iter__(self) -> Iterator[H]:
        """Go through them; those that are added meanwhile do not count."""
        return iter(self._handlers)

    def add(self, handler: H) -> H:
        """Add a handler, and return it.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
        """
        if not callable(handler):
            message = f"an inline handler must be a function, not {show(handler)}"
            raise InvalidArgumentTypeError(message)
        self._handlers = (*self._handlers, handler)
        return handler


def new_events(
    commits: Sequence[Commit], outcomes: Sequence[Outcome]
) -> Iterator[Sequence[RecordedEvent]]:
    """Yield the events of each commit that is written now, rather than by an earlier try."""
    for commit, outcome in zip(commits, outcomes, strict=True):
        if isinstance(outcome, Committed) and not outcome.deduplicated:
            yield decode_commit(commit, outcome)


def inline_failure(
    handler: Callable[..., object], why: str | BaseException
) -> InlineProjectionError:
    """Make the error for a commit that was not written because a handler failed."""
    if isinstance(why, BaseException):
        # The text of other errors may hold data of events; it stays in the cause.
        text = f": {why}" if isinstance(why, EventportError) else ""
        why = f"{type(why).__name__}{text}"
    return InlineProjectionError(
        f"inline handler {getattr(handler, '__qualname__', handler)} failed, and nothing of this "
        f"commit was written: {why}"
    )
