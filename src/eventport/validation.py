"""The rules for arguments that are the same on every backend."""

from __future__ import annotations

import re

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast, get_args

from eventport.errors import (
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventTypeError,
    InvalidStreamNameError,
)
from eventport.events import NO_TAGS
from eventport.expectations import Expectation


MAX_NAME_BYTES: Final = 500
"""The length of the longest stream or type name, in UTF-8."""

MAX_TAGS: Final = 50
"""How many tags an event, or a match of a query, has at most."""

MAX_TAG_BYTES: Final = 200
"""The length of the longest tag, in UTF-8."""

MAX_INT: Final = 2**63 - 1
"""The largest version, position or count that can be asked for."""

TOOLKIT_STREAMS: Final = "eventport/"
"""How the name of every stream of the toolkit begins; leave such names to it."""

TOOLKIT_TYPES: Final = "eventport."
"""How the type of every event in such a stream begins."""

NamedExpectation: TypeAlias = Literal["any", "no_stream", "stream_exists"]

S = TypeVar("S")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME: Final = re.compile(r"[A-Za-z_$][\w.$-]{0,59}", re.ASCII).fullmatch
_EXPECTATIONS: Final[tuple[NamedExpectation, ...]] = get_args(NamedExpectation)


def check_stream(name: object) -> str:
    """Return a stream's name, or raise `InvalidStreamNameError`."""
    if type(name) is str and _is_plain(name):
        return name
    text = _check_name(name, "stream name", InvalidStreamNameError)
    if text.startswith("$"):
        message = (
            f"stream name {text!r} starts with '$', which is reserved for servers: choose another"
        )
        raise InvalidStreamNameError(message)
    return text


def check_streams(names: object) -> list[str]:
    """Return names of streams, each of them once, or raise `InvalidStreamNameError`."""
    given = names  # which no check has made a narrower type of
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Iterable):
        message = f"streams must be several names, such as a list, not {show(given)}"
        raise InvalidArgumentTypeError(message)
    return list(dict.fromkeys(check_stream(name) for name in cast("Iterable[object]", names)))


def check_event_type(name: object) -> str:
    """Return an event's type name, or raise `InvalidEventTypeError`."""
    if type(name) is str and _is_plain(name):
        return name
    return _check_name(name, "event type", InvalidEventTypeError)


def check_toolkit_types(stream: str, types: Iterable[str]) -> None:
    """Refuse to append events of a program's own types to a stream of the toolkit.

    Such an append is a mistake, since the toolkit could take its event for a record of its own,
    such as a checkpoint or a claim of a key.

    Raises:
        InvalidStreamNameError: an event's type is not one of the toolkit's.
    """
    for type_ in types:
        if not type_.startswith(TOOLKIT_TYPES):
            message = (
                f"stream {show(stream)} belongs to eventport's toolkit, and an event of type "
                f"{show(type_)} does not: choose a name that does not begin with "
                f"{TOOLKIT_STREAMS!r}"
            )
            raise InvalidStreamNameError(message)


def check_prefix(prefix: object) -> str | None:
    """Return the prefix that selects streams by name; None and "" select all."""
    if prefix is None or prefix == "":
        return None
    return _check_name(prefix, "prefix", InvalidStreamNameError)


def check_key(key: object, what: str) -> str:
    """Return a name or key of what is kept beside events; the rules are those of streams' names.

    Args:
        key: What was given.
        what: What it is, for the message.
    """
    return _check_name(key, what, InvalidArgumentError)


def check_types(types: object) -> frozenset[str] | None:
    """Return the type names that select events; None selects all."""
    if types is None:
        return None
    if isinstance(types, str) or not isinstance(types, Collection):
        message = f"types must be a collection of type names, not {show(types)}"
        raise InvalidArgumentTypeError(message)
    if not types:
        message = "types is empty and would match no event: pass None for events of all types"
        raise InvalidArgumentError(message)
    return frozenset(check_event_type(name) for name in cast("Collection[object]", types))


def check_tags(tags: object) -> frozenset[str]:
    """Return the tags of an event or a query. No message shows one: tags are data."""
    if type(tags) is frozenset and not tags:
        return NO_TAGS
    if not isinstance(tags, AbstractSet):
        message = f'tags must be a set of text, such as {{"course:1"}}, not a {type(tags).__name__}'
        raise InvalidArgumentTypeError(message)
    checked = frozenset(_check_tag(tag) for tag in cast("AbstractSet[object]", tags))
    if len(checked) > MAX_TAGS:
        message = f"{len(checked)} tags are too many: the limit is {MAX_TAGS}"
        raise InvalidArgumentError(message)
    return checked or NO_TAGS


def _check_tag(tag: object) -> str:
    if not isinstance(tag, str):
        message = f"a tag must be text, not a {type(tag).__name__}"
        raise InvalidArgumentTypeError(message)
    text = str.__str__(tag)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        message = "a tag contains a lone surrogate, which is not Unicode text"
        raise InvalidArgumentError(message) from exc
    if not 1 <= size <= MAX_TAG_BYTES:
        message = f"a tag has {size} UTF-8 bytes: it must have 1 to {MAX_TAG_BYTES}"
        raise InvalidArgumentError(message)
    if control := control_character(text):
        message = f"a tag contains the control character {control!r}: remove it"
        raise InvalidArgumentError(message)
    return text


def check_expectation(expected: object) -> Expectation:
    """Return an expectation, or raise `InvalidArgumentError`."""
    if isinstance(expected, str):
        if expected in _EXPECTATIONS:
            # A str subclass becomes the plain name.
            return _EXPECTATIONS[_EXPECTATIONS.index(expected)]
    elif isinstance(expected, int) and not isinstance(expected, bool):
        if 0 <= expected <= MAX_INT:
            return int(expected)
    else:
        message = f"expected must be a version or one of {_EXPECTATIONS}, not {show(expected)}"
        raise InvalidArgumentTypeError(message)
    message = f"expected must be a version from 0 or one of {_EXPECTATIONS}, not {show(expected)}"
    raise InvalidArgumentError(message)


def check_metadata(metadata: object) -> dict[str, Any]:
    """Return a copy of the metadata to store with an event; None means {}."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        message = f"metadata must be a dict, not {show(metadata)}"
        raise InvalidArgumentTypeError(message)
    return dict(cast("Mapping[str, Any]", metadata))


def check_int(name: str, value: object, *, least: int = 0) -> int:
    """Return a version, position or count, or raise `InvalidArgumentError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"{name} must be an integer, not {show(value)}"
        raise InvalidArgumentTypeError(message)
    if not least <= value <= MAX_INT:
        message = f"{name} must be from {least} to {MAX_INT}, not {show(value)}"
        raise InvalidArgumentError(message)
    return int(value)


def check_optional_int(name: str, value: object) -> int | None:
    """Return None, or a checked bound or count."""
    return None if value is None else check_int(name, value)


def check_initial(initial: Callable[[], S]) -> Callable[[], S]:
    """Return `initial` if it can be called, and refuse a value in its place."""
    if not callable(initial):
        kind = type(initial).__name__
        message = (
            "initial must make a new state each time that it is called, such as list, Cart or "
            f"lambda: Cart(limit=5); not a {kind}, which folds would share: pass a lambda"
        )
        raise InvalidArgumentTypeError(message)
    return initial


def check_plain_function(name: str, function: object) -> None:
    """Refuse a coroutine function where nobody awaits what it returns."""
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004  # whether it can be called is another question
        message = (
            f"{name} must be a plain function, not an async one, whose result nobody would await: "
            "read what it needs before the fold"
        )
        raise InvalidArgumentTypeError(message)


def control_character(text: str) -> str | None:
    """Return the first control character in a text, if there is any."""
    match = _CONTROL.search(text)
    return match and match[0]


def show(value: object) -> str:
    """Describe a value for an error's message: in short, even if its repr raises."""
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001  # deep values and ints of 5,000 digits raise, too
        text = "a value without a repr"
    if len(text) > 60:
        text = f"{text[:60]}…"
    return f"{text} ({type(value).__name__})"


def show_key(key: object, index: int) -> str:
    """Describe a dict's key in a path, by its place if it looks like data rather than a name."""
    if type(key) is str and _NAME(key):
        return repr(key)
    return f"key {index + 1}"


def _is_plain(name: str) -> bool:
    # Nearly every name is short printable ASCII; the full rules cost ten times as much.
    return (
        0 < len(name) <= MAX_NAME_BYTES and name.isascii() and name.isprintable() and name[0] != "$"
    )


def _check_name(
    name: object, what: str, error: type[InvalidStreamNameError | InvalidArgumentError]
) -> str:
    if not isinstance(name, str):
        message = f"{what} must be text, not {show(name)}"
        raise error(message)
    # A str subclass, such as a StrEnum's member, becomes the plain text that is stored.
    text = str.__str__(name)
    if not text:
        message = f"{what} is empty"
        raise error(message)
    if control := control_character(text):
        message = f"{what} {show(text)} contains the control character {control!r}: remove it"
        raise error(message)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        message = f"{what} {show(text)} contains a lone surrogate, which is not Unicode text"
        raise error(message) from exc
    if size > MAX_NAME_BYTES:
        message = f"{what} {show(text)} has {size} UTF-8 bytes; the limit is {MAX_NAME_BYTES}"
        raise error(message)
    return text
