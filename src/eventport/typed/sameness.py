"""Whether a value came back as it was: equal, and of equal types, in all of its parts."""

from __future__ import annotations

import marshal

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

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


class _Plan(NamedTuple):
    """How two instances of a class are compared."""

    names: tuple[str, ...]
    """The attributes that the class declares as fields."""
    get: Callable[[Any], Sequence[Any]]
    """Returns their values, all at once."""
    has_dict: bool
    """Whether instances can have other attributes, too."""
    held: int
    """How many of the fields are kept in the dict of an instance, and not in slots."""
    cached: frozenset[str]
    """What an instance only caches in its dict."""


_CHANGED: Final = Difference("", "comes back as another value")
_MISSING: Final = _Missing()

_PLAIN: Final = frozenset({str, int, bool, bytes, type(None), date, timedelta, UUID})
"""Types of which two values that are equal are the same in all that counts."""

_MARSHALLED: Final = frozenset({str, int, float, bool, bytes, type(None), list, tuple, dict})
"""What a container that can be compared in C most likely begins with."""

_SEQUENCES: Final = (list, tuple, deque)
_SETS: Final = (set, frozenset)

_PYDANTIC_PARTS: Final = ("__pydantic_extra__", "__pydantic_private__")
"""Where a pydantic model keeps what is not among its fields."""


def find_difference(value: Any, back: Any) -> Difference | None:
    """Return the first difference between a value and what it came back as; None if there is none.

    Equality alone is not enough: ``True == 1``, times of different offsets can be equal, and a
    class may leave fields out of its comparison.
    """
    kind = cast("type[object]", type(value))
    if kind is not type(back):
        return Difference("", f"comes back as {_name(back)}, not as {_name(value)}")
    if kind in _PLAIN:
        return None if value == back else _CHANGED
    if (same := _SAME.get(kind)) is not None:
        return None if same(value, back) else _CHANGED
    for kinds, find in _CONTAINERS:
        if isinstance(value, kinds):
            return find(value, back)
    plan = plan_of(kind)
    if plan.names:
        return _in_attributes(plan, value, back)
    return None if _are_equal(value, back) else _CHANGED


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through the parts of a value, each after what it adds to the path."""
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        for index, (key, item) in enumerate(members.items()):
            yield f"[{show_key(key, index)}]", item
    elif isinstance(value, _SEQUENCES):
        items = cast("Iterable[object]", value)
        for index, item in enumerate(items):
            yield f"[{index}]", item
    elif isinstance(value, _SETS):
        unordered = cast("Iterable[object]", value)
        for item in unordered:
            yield "", item
    else:
        for name in plan_of(cast("type[object]", type(value))).names:
            yield f".{name}", getattr(value, name, None)


def _are_equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back)
    except Exception:  # noqa: BLE001  # the comparison of a class that nobody here knows
        return False


def _alike(value: Any, back: Any, item: Any) -> bool:
    """Compare in C what has only exact built-in types in it; False may mean anything."""
    if type(item) not in _MARSHALLED:  # an item that is not would raise, which takes longer
        return False
    try:
        # Version 2 writes no references, which would depend on what is the same object.
        return marshal.dumps(value, 2) == marshal.dumps(back, 2)
    except ValueError:
        return False


def _in_dict(value: dict[Any, Any], back: dict[Any, Any]) -> Difference | None:
    if len(value) != len(back):
        return Difference("", "comes back with other keys")
    if value and _alike(value, back, next(iter(value.values()))):
        return None
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
    if value and _alike(value, back, value[0]):
        return None
    for index, (item, other) in enumerate(zip(value, back, strict=True)):
        if item is not other and (found := find_difference(item, other)) is not None:
            return Difference(f"[{index}]{found.path}", found.reason)
    return None


def _in_set(value: Any, back: Any) -> Difference | None:
    if len(value) != len(back):
        return Difference("", "comes back with another number of items")
    counterparts = {item: item for item in back}
    return _first(("", item, counterparts.get(item, _MISSING)) for item in value)


def _in_attributes(plan: _Plan, value: Any, back: Any) -> Difference | None:
    for name, one, other in zip(plan.names, plan.get(value), plan.get(back), strict=True):
        # Most fields end here, without another call. What was decoded shares only atoms with it.
        kind = cast("type[object]", type(one))
        if one is other or (kind in _PLAIN and kind is type(other) and one == other):
            continue
        if name in _PYDANTIC_PARTS and kind is type(other) is dict:
            found = _in_names(one, other, {**one, **other})
        elif (found := find_difference(one, other)) is not None:
            found = Difference(f".{name}{found.path}", found.reason)
        if found is not None:
            return found
    if not plan.has_dict or len(value.__dict__) == plan.held == len(back.__dict__):
        return None
    names = {**value.__dict__, **back.__dict__}.keys() - plan.names - plan.cached
    return _in_names(value.__dict__, back.__dict__, sorted(names))


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


def _make_plan(cls: type) -> _Plan:
    names = _names_of_fields(cls)

    def get(value: Any) -> Sequence[Any]:
        return [getattr(value, name, _MISSING) for name in names]

    def get_fast(value: Any) -> Sequence[Any]:
        try:
            return found(value)
        except AttributeError:  # a slot that is empty, or an attribute that was deleted
            return get(value)

    found = attrgetter(*names) if len(names) > 1 else get
    held = sum(not isinstance(lookup(cls, name), MemberDescriptorType) for name in names)
    cached = frozenset(name for name in dir(cls) if isinstance(lookup(cls, name), cached_property))
    return _Plan(names, get_fast, cls.__dictoffset__ != 0, held, cached)


plan_of: Final[Callable[[type], _Plan]] = cast("Any", lru_cache(maxsize=1024))(_make_plan)
"""Returns how two instances of a class are compared."""


def _names_of_fields(kind: Any) -> tuple[str, ...]:
    if issubclass(kind, Struct):
        return tuple(kind.__struct_fields__)
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__)
    if hasattr(kind, "__pydantic_fields__"):
        return (*kind.__pydantic_fields__, *_PYDANTIC_PARTS)
    return ()


def lookup(kind: type, name: str) -> object:
    """Return what a class has under a name, as it stands there; None if it has nothing."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _name(value: object) -> str:
    if value is None:
        return "None"
    return "nothing" if value is _MISSING else type(value).__name__


def _same_time(value: Any, back: Any) -> bool:
    """Return whether two times agree on the wall clock, and on the offset or else the fold."""
    if value.tzinfo is back.tzinfo and value.fold == back.fold:
        return bool(value == back)
    offset = value.utcoffset()
    return bool(
        value.isoformat() == back.isoformat()
        and offset == back.utcoffset()
        and (offset is not None or value.fold == back.fold)
    )


_SAME: Final[Mapping[type, Callable[[Any, Any], bool]]] = {
    float: lambda value, back: repr(value) == repr(back),  # 0.0 == -0.0
    Decimal: lambda value, back: not value.compare_total(back),  # 1.0 == 1.00
    datetime: _same_time,
    time: _same_time,
}

_CONTAINERS: Final[
    tuple[tuple[type | tuple[type, ...], Callable[[Any, Any], Difference | None]], ...]
] = ((dict, _in_dict), (_SEQUENCES, _in_sequence), (_SETS, _in_set))
