"""A fast path for values that fit their declared types exactly, and so surely come back.

To decode what was encoded, and compare it, takes longer than to encode it. For most classes that
is not needed: an ``int`` in a field declared as ``int`` cannot change on its way. Whatever is not
known to be so is left to the comparison.
"""

from __future__ import annotations

import math

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, Flag
from keyword import iskeyword
from types import MemberDescriptorType
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from eventport._json import is_unicode
from eventport.typed.sameness import lookup, plan_of


Check: TypeAlias = Callable[[Any], bool]
"""Returns whether a value of the right type surely comes back; False may mean anything."""

Accepted: TypeAlias = Mapping[type, Check | None]
"""The exact types that a field may hold, and what else to check of each."""


def record_check(cls: type, fields: Mapping[str, Accepted]) -> Check | None:
    """Return a check for the instances of a class; None if its fields cannot be named in code.

    It runs for each event, so that it is made as `dataclasses` makes its methods: a function
    whose source names the fields, which takes a third of the time of one that loops over them.
    """
    if not all(name.isidentifier() and not iskeyword(name) for name in fields):
        return None
    known: dict[str, Any] = {"UTC": UTC}

    def bind(value: object) -> str:
        name = f"_{len(known)}"
        known[name] = value
        return name

    def source(check: Check) -> str:
        return _SOURCES.get(check, "{}(part)").format(bind(check))

    plan = plan_of(cls)
    body = ["def check(value):", " try:"]
    body.append("  held = value.__dict__" if plan.has_dict else "  held = ()")
    for name, accepted in fields.items():
        # A class with a `__getattr__`, as models have, is read much faster from its dict.
        in_slot = isinstance(lookup(cls, name), MemberDescriptorType)
        body.append(f"  part = value.{name}" if in_slot else f"  part = held[{name!r}]")
        tests = [
            f"type(part) is {bind(kind)}" + (f" and {source(check)}" if check else "")
            for kind, check in accepted.items()
        ]
        body.append(f"  if not ({' or '.join(tests)}): return False")
    body.append(" except (AttributeError, KeyError): return False")  # a field that was deleted
    body.append(f" return len(held) == {plan.held if plan.has_dict else 0}")
    exec("\n".join(body), known)  # noqa: S102  # identifiers and numbers, and nothing else
    return cast("Check", known["check"])


def has_plain_attributes(cls: Any) -> bool:
    """Return whether the fields of a class are read and set without code of its own."""
    plain: Any = object
    if cls.__getattribute__ is not plain.__getattribute__ or cls.__new__ is not plain.__new__:
        return False
    found = (lookup(cls, name) for name in plan_of(cls).names)
    return all(
        isinstance(attribute, MemberDescriptorType)
        or not (hasattr(attribute, "__get__") or hasattr(attribute, "__set__"))
        for attribute in found
    )


def all_of(items: Accepted) -> Check:
    """Return a check for the items of a list or a tuple."""
    fit = frozenset(items).issuperset
    checks = set(items.values())
    if checks == {None}:
        return lambda value: fit(map(type, value))
    if len(checks) == 1:
        (check,) = cast("set[Check]", checks)
        if (check_all := _OF_ALL.get(check)) is not None:
            return lambda value: fit(map(type, value)) and check_all(value)
        return lambda value: fit(map(type, value)) and all(map(check, value))
    return lambda value: all(_is_accepted(item, items) for item in value)


def all_values_of(values: Accepted, keys: Accepted) -> Check:
    """Return a check for a dict."""
    check, fit = all_of(values), all_of(keys)
    return lambda value: fit(value) and check(value.values())


def one_of(expected: Iterable[Any]) -> Accepted | None:
    """Return what a literal may hold; None if its values are not all of one simple type."""
    values = frozenset(expected)
    kinds = _types_of(values)
    return dict.fromkeys(kinds, values.__contains__) if kinds in _SIMPLE else None


def member_of(cls: type[Enum]) -> Accepted | None:
    """Return what a field of an enum may hold; None if its values are not of one simple type."""
    kinds = _types_of(member.value for member in cls)
    return {cls: None} if kinds in _SIMPLE and not issubclass(cls, Flag) else None


def or_none(accepted: Accepted | None) -> Accepted | None:
    """Return what an optional field may hold."""
    return None if accepted is None else {**accepted, type(None): None}


def _types_of(values: Iterable[object]) -> set[type]:
    return {type(value) for value in values}


def _is_accepted(item: object, accepted: Accepted) -> bool:
    check = accepted.get(type(item), _refuse)
    return check is None or check(item)


def _refuse(_: object) -> bool:
    return False


def _is_plain_time(value: datetime) -> bool:
    return value.tzinfo is UTC or (value.tzinfo is None and not value.fold)


def _are_unicode(values: Iterable[str]) -> bool:
    return all(map(str.isascii, values)) or all(map(is_unicode, values))


def _is_encodable(value: int) -> bool:
    return -0x8000_0000_0000_0000 <= value <= 0xFFFF_FFFF_FFFF_FFFF


def _are_encodable(values: Collection[int]) -> bool:
    return not values or (_is_encodable(min(values)) and _is_encodable(max(values)))


_OF_ALL: Final[Mapping[Check, Check]] = {
    is_unicode: _are_unicode,
    _is_encodable: _are_encodable,
}
"""Checks of many values at once, which take less time than one by one."""


_SOURCES: Final[Mapping[Check, str]] = {
    cast("Check", _is_plain_time): "(part.tzinfo is UTC or {}(part))",
    is_unicode: "(part.isascii() or {}(part))",
    _is_encodable: "-0x8000_0000_0000_0000 <= part <= 0xFFFF_FFFF_FFFF_FFFF",
}
"""How checks read in the source of a function: a call would take most of their time."""


_SIMPLE: Final[tuple[set[type], ...]] = ({str}, {int})

TEXT: Final[Accepted] = {str: None}
INT: Final[Accepted] = {int: None}
UNICODE: Final[Accepted] = {str: is_unicode}
"""Text that can be encoded; where the encoding itself refuses the rest, `TEXT` will do."""
INT64: Final[Accepted] = {int: _is_encodable}
"""An integer that can be encoded."""
BOOL: Final[Accepted] = {bool: None}
NONE: Final[Accepted] = {type(None): None}
BYTES: Final[Accepted] = {bytes: None}
FLOAT: Final[Accepted] = {float: math.isfinite}
DECIMAL: Final[Accepted] = {Decimal: None}
FINITE_DECIMAL: Final[Accepted] = {Decimal: Decimal.is_finite}
ID: Final[Accepted] = {UUID: None}
DATE: Final[Accepted] = {date: None}
TIME: Final[Accepted] = {datetime: cast("Check", _is_plain_time)}
