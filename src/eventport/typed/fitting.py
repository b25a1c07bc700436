"""A fast path for values that fit their declared types exactly, and so surely come back.

To decode what was encoded, and compare it, takes longer than to encode it. For most classes that
is not needed: an ``int`` in a field declared as ``int`` cannot change on its way. Whatever is not
known to be so is left to the comparison.
"""

from __future__ import annotations

import math

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Flag
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from msgspec import Struct, inspect

from eventport.typed.sameness import plan_of


Check: TypeAlias = Callable[[Any], bool]
"""Returns whether a value of the right type surely comes back; False may mean anything."""

Accepted: TypeAlias = Mapping[type, Check | None]
"""The exact types that a field may hold, and what else to check of each."""


def fit_check(cls: type) -> Check | None:
    """Return a check for the instances of a class; None if there is none for this class."""
    return _record(inspect.type_info(cls), {})


class _Record:
    """Checks the instances of a class field by field."""

    def __init__(self, cls: type) -> None:
        self.fields: list[Accepted] = []
        self._plan = plan_of(cls)

    def __call__(self, value: Any) -> bool:
        plan = self._plan
        for item, accepted in zip(plan.get(value), self.fields, strict=True):
            if not _is_accepted(item, accepted):
                return False
        return not plan.has_dict or len(value.__dict__) == plan.held


def _record(info: inspect.Type, made: dict[type, _Record]) -> Check | None:
    """Return the check of a class with fields, which may hold instances of itself."""
    if not isinstance(info, inspect.DataclassType | inspect.StructType) or not _is_simple(info):
        return None
    if (known := made.get(info.cls)) is not None:
        return known
    record = made[info.cls] = _Record(info.cls)
    for field in info.fields:
        if (accepted := _accepted(field.type, made)) is None:
            return None
        record.fields.append(accepted)
    return record


def _is_simple(info: inspect.DataclassType | inspect.StructType) -> bool:
    """Return whether a class has no code of its own between its fields and JSON."""
    cls: Any = info.cls
    hooks = ("__post_init__", "__attrs_post_init__", "__attrs_pre_init__", "__parameters__")
    if any(hasattr(cls, hook) for hook in hooks):
        return False
    if issubclass(cls, Struct) and (cls.__struct_config__.omit_defaults or cls.__dictoffset__):
        return False
    if any(field.validator for field in getattr(cls, "__attrs_attrs__", ())):
        return False
    if is_dataclass(cls) and not all(field.init for field in fields(cls)):
        return False
    return plan_of(cls).names == tuple(field.name for field in info.fields)


def _accepted(info: inspect.Type, made: dict[type, _Record]) -> Accepted | None:
    """Return what a field of a type may hold; None if it may be anything."""
    names = info.__struct_fields__
    if isinstance(info, inspect.EnumType):
        return None if issubclass(info.cls, Flag) else {info.cls: None}
    if (leaf := _LEAVES.get(type(info))) is not None:
        constrained = any(getattr(info, name) is not None for name in names)
        return None if constrained else leaf
    if isinstance(info, inspect.UnionType) and len(info.types) == 2 and info.includes_none:
        (other,) = (one for one in info.types if not isinstance(one, inspect.NoneType))
        accepted = _accepted(other, made)
        return None if accepted is None else {type(None): None, **accepted}
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        items = _accepted(info.item_type, made)
        if items is None or info.min_length is not None or info.max_length is not None:
            return None
        kind = list if isinstance(info, inspect.ListType) else tuple
        return {kind: lambda value: _all_accepted(value, items)}
    check = _record(info, made)
    return None if check is None else {cast("Any", info).cls: check}


def _all_accepted(items: Any, accepted: Accepted) -> bool:
    return all(_is_accepted(item, accepted) for item in items)


def _is_accepted(item: object, accepted: Accepted) -> bool:
    check = accepted.get(type(item), _refuse)
    return check is None or check(item)


def _refuse(_: object) -> bool:
    return False


def _is_plain_time(value: datetime) -> bool:
    return value.tzinfo is UTC or (value.tzinfo is None and not value.fold)


_LEAVES: Final[Mapping[type, Accepted]] = {
    inspect.StrType: {str: None},
    inspect.IntType: {int: None},
    inspect.BoolType: {bool: None},
    inspect.NoneType: {type(None): None},
    inspect.BytesType: {bytes: None},
    inspect.FloatType: {float: math.isfinite},
    inspect.DecimalType: {Decimal: None},
    inspect.UUIDType: {UUID: None},
    inspect.DateType: {date: None},
    inspect.DateTimeType: {datetime: _is_plain_time},
}
