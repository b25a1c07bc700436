"""Whether a value came back as it was: equal, and of equal types, in all of its parts."""

from __future__ import annotations

import marshal

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from msgspec import Struct

from eventport.validation import show_key


class Difference(NamedTuple):
    """The first part of a value that did not come back as it was."""

    path: str
    """Where it is, such as ``.lines[2].price``; empty for the value itself."""
    reason: str
    """What became of it. It names types, and no values."""


class _Missing:
    """Stands for an attribute that is not there."""


class _Fields(NamedTuple):
    """The attributes of a class."""

    names: tuple[str, ...]
    """Those that it declares as fields."""
    allowed: frozenset[str]
    """Those, and what it only caches."""


_CHANGED: Final = Difference("", "comes back as another value")
_MISSING: Final = _Missing()
_NO_ATTRIBUTES: Final[Mapping[str, Any]] = {}

_PLAIN: Final = frozenset({str, int, bool, bytes, type(None), date, timedelta, UUID})
"""Types of which two values that are equal are the same in all that counts."""

_SEQUENCES: Final = (list, tuple, deque)
_SETS: Final = (set, frozenset)

_PYDANTIC_PARTS: Final = ("__pydantic_extra__", "__pydantic_private__")
"""Where a pydantic model keeps what is not among its fields."""


def find_difference(value: Any, back: Any) -> Difference | None:
    """Return the first difference between a value and what it came back as; None if there is none.

    Equality alone is not enough: ``True == 1``, times of different offsets can be equal, and a
    class may leave fields out of its comparison.
    """
    kind = type(value)
    if kind is not type(back):
        return Difference("", f"comes back as {_name(back)}, not as {_name(value)}")
    if kind in _PLAIN:
        return None if value == back else _CHANGED
    if (exact := _EXACT.get(kind)) is not None:
        return None if exact(value) == exact(back) else _CHANGED
    for kinds, find in _CONTAINERS:
        if isinstance(value, kinds):
            return None if _alike(value, back) else find(value, back)
    if _fields(kind).names:
        return _in_attributes(value, back)
    return None if value == back else _CHANGED


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through the parts of a value, each after what it adds to the path."""
    if isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            yield f"[{show_key(key, index)}]", item
    elif isinstance(value, _SEQUENCES):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, _SETS):
        for item in value:
            yield "", item
    else:
        for name in _fields(type(value)).names:
            yield f".{name}", getattr(value, name, None)


def _alike(value: Any, back: Any) -> bool:
    """Compare in C what has only exact built-in types in it; False may mean anything."""
    try:
        # Version 2 writes no references, which would depend on what is the same object.
        return marshal.dumps(value, 2) == marshal.dumps(back, 2)
    except ValueError:
        return False


def _in_dict(value: dict[Any, Any], back: dict[Any, Any]) -> Difference | None:
    if len(value) != len(back):
        return Difference("", "comes back with other keys")
    for key, other in zip(value, back, strict=True):
        if find_difference(key, other) is not None:
            return Difference("", f"has a key that does not come back as {_name(key)}")
    return _first(
        (f"[{show_key(key, index)}]", item, back[key])
        for index, (key, item) in enumerate(value.items())
    )


def _in_sequence(value: Any, back: Any) -> Difference | None:
    if len(value) != len(back):
        return Difference("", "comes back with another number of items")
    for index, (item, other) in enumerate(zip(value, back, strict=True)):
        if item is not other and (found := find_difference(item, other)) is not None:
            return Difference(f"[{index}]{found.path}", found.reason)
    return None


def _in_set(value: Any, back: Any) -> Difference | None:
    if len(value) != len(back):
        return Difference("", "comes back with another number of items")
    counterparts = {item: item for item in back}
    return _first(("", item, counterparts.get(item, _MISSING)) for item in value)


def _in_attributes(value: Any, back: Any) -> Difference | None:
    names, allowed = _fields(type(value))
    for name in names:
        one, other = getattr(value, name, _MISSING), getattr(back, name, _MISSING)
        # Most fields end here, without another call. What was decoded shares only atoms with it.
        if one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other):
            continue
        if name in _PYDANTIC_PARTS and type(one) is type(other) is dict:
            found = _in_names(one, other, {**one, **other})
        elif (found := find_difference(one, other)) is not None:
            found = Difference(f".{name}{found.path}", found.reason)
        if found is not None:
            return found
    ours = getattr(value, "__dict__", _NO_ATTRIBUTES)
    theirs = getattr(back, "__dict__", _NO_ATTRIBUTES)
    if ours.keys() <= allowed and theirs.keys() <= allowed:
        return None
    return _in_names(ours, theirs, (name for name in {**ours, **theirs} if name not in allowed))


def _in_names(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Iterable[str]
) -> Difference | None:
    """Find the first difference in attributes that are no fields."""
    return _first(
        (f".{name}", ours.get(name, _MISSING), theirs.get(name, _MISSING)) for name in names
    )


def _first(pairs: Iterable[tuple[str, Any, Any]]) -> Difference | None:
    for segment, item, other in pairs:
        if (found := find_difference(item, other)) is not None:
            return Difference(segment + found.path, found.reason)
    return None


def _fields(kind: type) -> _Fields:
    if (known := _known_fields.get(kind)) is None:
        names = _names_of_fields(kind)
        cached = (name for name in dir(kind) if isinstance(_lookup(kind, name), cached_property))
        known = _known_fields[kind] = _Fields(names, frozenset((*names, *cached)))
    return known


_known_fields: Final[WeakKeyDictionary[type, _Fields]] = WeakKeyDictionary()


def _names_of_fields(kind: Any) -> tuple[str, ...]:
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__)
    if hasattr(kind, "__pydantic_fields__"):
        return (*kind.__pydantic_fields__, *_PYDANTIC_PARTS)
    return ()


def _lookup(kind: type, name: str) -> object:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _name(value: object) -> str:
    if value is None:
        return "None"
    return "nothing" if value is _MISSING else type(value).__name__


def _exact_time(value: Any) -> object:
    """Return what two times must agree in: the wall clock, and the offset or else the fold."""
    offset = value.utcoffset()
    return value.isoformat(), value.fold if offset is None else offset


_EXACT: Final[Mapping[type, Callable[[Any], object]]] = {
    float: repr,  # 0.0 == -0.0
    Decimal: str,  # 1.0 == 1.00
    datetime: _exact_time,
    time: _exact_time,
}

_CONTAINERS: Final[
    tuple[tuple[type | tuple[type, ...], Callable[[Any, Any], Difference | None]], ...]
] = ((dict, _in_dict), (_SEQUENCES, _in_sequence), (_SETS, _in_set))
