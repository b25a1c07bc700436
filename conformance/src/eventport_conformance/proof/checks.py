"""The rules for arguments, written again from the contract for the reference store.

They are not the core's own: a rule that the core gets wrong must not be wrong here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar
from unicodedata import category

from eventport import (
    Expectation,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventTypeError,
    InvalidStreamNameError,
    Query,
)


S = TypeVar("S")

_EXPECTATIONS: Final = ("any", "no_stream", "stream_exists")


def check_stream(name: Any) -> str:
    """Return a stream's name, or raise `InvalidStreamNameError`."""
    text = _check_name(name, InvalidStreamNameError)
    if text.startswith("$"):
        message = f"{text!r} starts with '$', which is reserved"
        raise InvalidStreamNameError(message)
    return text


def check_prefix(prefix: Any) -> str | None:
    """Return the prefix that selects streams by name; None and "" select all."""
    return None if prefix is None or prefix == "" else _check_name(prefix, InvalidStreamNameError)


def check_types(types: Any) -> frozenset[str] | None:
    """Return the type names that select events; None selects all."""
    if types is None:
        return None
    if isinstance(types, str) or not isinstance(types, Collection):
        message = "types must be a collection of names"
        raise InvalidArgumentTypeError(message)
    if not types:
        message = "types is empty: pass None for all events"
        raise InvalidArgumentError(message)
    names: Collection[Any] = types
    return frozenset(_check_name(name, InvalidEventTypeError) for name in names)


def check_expectation(expected: Any) -> Expectation:
    """Return an expectation, or raise `InvalidArgumentError`."""
    if not isinstance(expected, str):
        return check_int("expected", expected)
    for name in _EXPECTATIONS:
        if expected == name:
            return name
    message = f"expected must be a version or one of {_EXPECTATIONS}"
    raise InvalidArgumentError(message)


def check_int(name: str, value: Any, *, least: int = 0) -> int:
    """Return a version, position or count, or raise `InvalidArgumentError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"{name} must be an integer"
        raise InvalidArgumentTypeError(message)
    if not least <= value < 2**63:
        message = f"{name} must be from {least} to {2**63 - 1}"
        raise InvalidArgumentError(message)
    return int(value)


def check_optional_int(name: str, value: Any) -> int | None:
    """Return None, or a checked bound or count."""
    return None if value is None else check_int(name, value)


def check_streams(names: Any) -> list[str]:
    """Return names of streams, each of them once."""
    if isinstance(names, str | bytes | dict):
        message = "streams must be a list of names"
        raise InvalidArgumentTypeError(message)
    try:
        every = list(names)
    except TypeError as exc:
        message = "streams must be a list of names"
        raise InvalidArgumentTypeError(message) from exc
    return list(dict.fromkeys(check_stream(name) for name in every))


def check_initial(initial: Callable[[], S]) -> Callable[[], S]:
    """Return what makes the first state of a fold, or refuse a value in its place."""
    if callable(initial):
        return initial
    message = "initial must make a new state each time that it is called: pass a lambda"
    raise InvalidArgumentTypeError(message)


def _check_name(name: Any, error: type[InvalidStreamNameError]) -> str:
    """Return a name as plain text: not empty, without control characters, at most 500 bytes."""
    if not isinstance(name, str):
        message = "a name must be text"
        raise error(message)
    text = str.__str__(name)
    kinds = {category(character) for character in text}
    if not text or kinds & {"Cc", "Cs"}:
        message = f"{text!a} is empty, or has a control character or a lone surrogate"
        raise error(message)
    if len(text.encode()) > 500:
        message = f"{text[:20]!r}… has more than 500 bytes in UTF-8"
        raise error(message)
    return text


def check_query(query: Any) -> Query:
    """Return a query, or raise `InvalidArgumentTypeError`."""
    if isinstance(query, Query):
        return query
    message = "a query must be a Query"
    raise InvalidArgumentTypeError(message)


def check_condition(unless: Any, since: Any) -> Query | None:
    """Return the query of a condition; None if there is none."""
    if unless is not None:
        return check_query(unless)
    if since is not None:
        message = "since needs the query that it is a token of: pass it as unless"
        raise InvalidArgumentError(message)
    return None
