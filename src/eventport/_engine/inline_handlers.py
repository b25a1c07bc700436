"""Inline projections: what all backends share whose transactions can include them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from anyio import move_on_after

from eventport._concurrency.cancelling import own_cancellation_only
from eventport._concurrency.nesting import calls_handlers
from eventport._engine.codec import decode_commit
from eventport._engine.commits import Commit, Committed, Outcome
from eventport.errors import EventportError, InlineProjectionError, InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.transactions import InlineHandler, Transaction
from eventport.validation import show


C = TypeVar("C")


class InlineHandlers(Generic[C]):
    """The handlers of one store, in the order in which they run; false if there are none."""

    def __init__(self) -> None:
        self._handlers: tuple[InlineHandler[C], ...] = ()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._handlers)

    def __iter__(self) -> Iterator[InlineHandler[C]]:
        """Go through them; those that are added meanwhile do not count."""
        return iter(self._handlers)

    def add(self, handler: InlineHandler[C]) -> InlineHandler[C]:
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


async def call_inline(
    handler: InlineHandler[C],
    events: Sequence[RecordedEvent],
    transaction: Transaction[C],
    within: float | None = None,
    judge: Callable[[Exception], str | Exception] = lambda error: error,
) -> None:
    """Call a handler with the events of one commit.

    Args:
        handler: What to call.
        events: What is committed.
        transaction: Where it writes.
        within: How many seconds it may take; None for any.
        judge: Returns what to say of an error, or raises one that is not the handler's, such as
            that of a lost connection.

    Raises:
        InlineProjectionError: it failed, or did not end in time.
    """
    call: Callable[..., Any] = handler  # its type says what it returns, but it may not
    try:
        with (
            move_on_after(within) as scope,
            own_cancellation_only(),
            calls_handlers(handler),
        ):
            awaitable = call(events, transaction)
            if not isawaitable(awaitable):
                message = "an inline handler is `async def handler(events, transaction)`"
                raise InvalidArgumentTypeError(message)  # noqa: TRY301  # as if it raised
            await awaitable
    except Exception as exc:
        raise inline_failure(handler, judge(exc)) from exc
    if scope.cancelled_caught:
        raise inline_failure(handler, "it did not end in time")


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
