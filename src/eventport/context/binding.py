"""What is bound: ids, a user and keys of the program's, through its calls and tasks."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec

from msgspec import Struct
from msgspec.structs import replace

from eventport._json import encode_json
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError, InvalidEventError
from eventport.events import RecordedEvent
from eventport.validation import show


CORRELATION_ID: Final = "correlation_id"
"""The key in an event's metadata shared by all actions that led to each other."""

CAUSATION_ID: Final = "causation_id"
"""The key in an event's metadata for the id of the event (or other message) that led to it."""

USER: Final = "user"
"""The key in an event's metadata for the user that acted."""

COMMAND_ID: Final = "command_id"
"""The key in an event's metadata for the id of the command that it comes from."""

COMMAND_HASH: Final = "command_hash"
"""The key in an event's metadata for a hash of the command, if its id was given by the caller."""

SCHEMA_VERSION: Final = "schema_version"
"""The key in an event's metadata that holds the version of its data; without it, that is 1."""

_OF_EVENTS: Final = frozenset({COMMAND_ID, COMMAND_HASH, SCHEMA_VERSION})
"""Keys whose values belong to a single command or event."""


class Cause(Struct, frozen=True):
    """The place of the event that led to an action."""

    stream: str
    """Its stream."""
    version: int
    """Its version there."""


class Context(Struct, frozen=True):
    """The cause of the actions in a block or task, and what else is bound there."""

    correlation_id: str | None = None
    """The conversation that they belong to, such as one request and all that comes of it."""
    causation_id: str | None = None
    """The id of the event or message that they react to."""
    user: str | None = None
    """The user that acts."""
    extra: Mapping[str, Any] = MappingProxyType({})
    """What the program has bound besides."""
    cause: Cause | None = None
    """The place of the event that they react to; None if it is no event that was read."""

    @property
    def metadata(self) -> dict[str, Any]:
        """All of it, as it stands in the metadata of events: a copy of the caller's own."""
        named = {CORRELATION_ID: self.correlation_id, CAUSATION_ID: self.causation_id}
        named[USER] = self.user
        found: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        return {**deepcopy(dict(self.extra)), **found} if self.extra else found


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
    **extra: Any,
) -> Generator[Context]:
    """Set the context of the actions in a block, in nested calls and in tasks begun there, too.

    What is not given, or is None, is inherited from outside of the block.

    Args:
        correlation_id: The conversation that they belong to.
        causation_id: The id of the event or message that they react to; for an event that was
            read, `reacting_to` also keeps its place.
        user: The user that acts.
        extra: What else to store in the metadata of each event that is appended: JSON values.
            A UUID becomes text. Values are copied.

    Raises:
        InvalidArgumentError: a key is one that commands or events set themselves.
        InvalidEventError: a value is no JSON; nothing is bound.
    """
    around = _current.get()
    caused_by = _text(CAUSATION_ID, causation_id)
    context = Context(
        _text(CORRELATION_ID, correlation_id) or around.correlation_id,
        caused_by or around.causation_id,
        _text(USER, user) or around.user,
        MappingProxyType({**around.extra, **_checked(extra)}) if extra else around.extra,
        around.cause if caused_by is None else None,
    )
    with _entered(context):
        yield context


@contextmanager
def reacting_to(event: RecordedEvent) -> Generator[Context]:
    """Set an event as the cause of the actions in a block.

    They get its correlation id, or else its own id as one. What else its metadata has is not
    carried on: bind what should be.
    """
    with _entered(
        replace(
            _current.get(),
            correlation_id=str(event.metadata.get(CORRELATION_ID, event.id)),
            causation_id=str(event.id),
            cause=Cause(event.stream, event.version),
        )
    ) as context:
        yield context


@contextmanager
def _entered(context: Context) -> Generator[Context]:
    token = _current.set(context)
    try:
        yield context
    finally:
        # Another task may close the generator that the block is in, such as one that a web
        # framework or the event loop ends: there nothing was set, and so nothing is to be undone.
        with suppress(ValueError):
            _current.reset(token)


def _text(name: str, value: object) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    if value is None or (isinstance(value, str) and value):
        return value
    message = f"{name} must be a uuid.UUID, or text that is not empty, not {show(value)}"
    raise InvalidArgumentTypeError(message)


def _checked(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of what is bound, once it is known that every store can hold it."""
    if taken := sorted(_OF_EVENTS & extra.keys()):
        message = (
            f"{taken[0]!r} cannot be bound: commands and typed events set it themselves, each to "
            "a value of its own"
        )
        raise InvalidArgumentError(message)
    given = {
        key: str(value) if isinstance(value, UUID) else value
        for key, value in extra.items()
        if value is not None
    }
    try:
        checked: dict[str, Any] = msgspec.json.decode(encode_json(given, "metadata"))
    except InvalidEventError as exc:
        message = f"bind_context: {exc}"
        raise InvalidEventError(message) from exc
    return checked
