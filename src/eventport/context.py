"""Correlation and causation: ids that follow a program through its calls and tasks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from eventport.errors import InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.validation import show


CORRELATION_ID: Final = "correlation_id"
"""The key in an event's metadata shared by all actions that led to each other."""

CAUSATION_ID: Final = "causation_id"
"""The key in an event's metadata for the id of the event (or other message) that led to it."""

COMMAND_ID: Final = "command_id"
"""The key in an event's metadata for the id of the command that it comes from."""

COMMAND_HASH: Final = "command_hash"
"""The key in an event's metadata for a hash of the command, if its id was given by the caller."""


class Context(Struct, frozen=True):
    """The cause of the actions in a block or task."""

    correlation_id: str | None = None
    """The conversation that they belong to, such as one request and all that comes of it."""
    causation_id: str | None = None
    """The id of the event or message that they react to."""
    user: str | None = None
    """The user that acts. It goes to the command log, not to the metadata of events."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The ids, as they stand in the metadata of events."""
        ids = {CORRELATION_ID: self.correlation_id, CAUSATION_ID: self.causation_id}
        return {key: value for key, value in ids.items() if value is not None}


_current: Final[ContextVar[Context]] = ContextVar("eventport_context", default=Context())  # noqa: B039  # it is frozen


def current_context() -> Context:
    """Return the context of an action at this place."""
    return _current.get()


@contextmanager
def bind_context(
    *,
    correlation_id: str | UUID | None = None,
    causation_id: str | UUID | None = None,
    user: str | UUID | None = None,
) -> Generator[Context]:
    """Set the context of the actions in a block, in nested calls and in tasks begun there, too.

    What is not given is inherited from outside of the block.
    """
    around = _current.get()
    context = Context(
        _text(CORRELATION_ID, correlation_id) or around.correlation_id,
        _text(CAUSATION_ID, causation_id) or around.causation_id,
        _text("user", user) or around.user,
    )
    with _entered(context):
        yield context


@contextmanager
def reacting_to(event: RecordedEvent) -> Generator[Context]:
    """Set an event as the cause of the actions in a block.

    They get its correlation id, or else its own id as one.
    """
    with _entered(
        replace(
            _current.get(),
            correlation_id=str(event.metadata.get(CORRELATION_ID, event.id)),
            causation_id=str(event.id),
        )
    ) as context:
        yield context


@contextmanager
def _entered(context: Context) -> Generator[Context]:
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def _text(name: str, value: object) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    if value is None or (isinstance(value, str) and value):
        return value
    message = f"{name} must be a uuid.UUID, or text that is not empty, not {show(value)}"
    raise InvalidArgumentTypeError(message)
