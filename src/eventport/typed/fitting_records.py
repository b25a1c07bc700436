"""What may be in a Struct, dataclass or attrs class, so that it need not be compared."""

from __future__ import annotations

import dataclasses

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, inspect

from eventport.typed import fitting
from eventport.typed.fitting import Accepted, Check
from eventport.typed.sameness import plan_of


def check_of_record(cls: type) -> Check | None:
    """Return a check for the instances of a class; None if there is none for this class."""
    return _record(inspect.type_info(cls), {})


def _record(info: inspect.Type, made: dict[type, Check]) -> Check | None:
    """Return the check of a class with fields, which may hold instances of itself."""
    if not isinstance(info, inspect.DataclassType | inspect.StructType) or not _is_simple(info):
        return None
    cls: Any = info.cls
    if cls in made:
        return made[cls]

    def itself(value: Any) -> bool:
        return made[cls](value)

    made[cls] = itself  # until its check is there
    fields: dict[str, Accepted] = {}
    for field in info.fields:
        if (accepted := _accepted(field.type, made)) is None:
            return None
        fields[field.name] = accepted
    if (check := fitting.record_check(cls, fields)) is not None:
        made[cls] = check
    return check


def _is_simple(info: inspect.DataclassType | inspect.StructType) -> bool:
    """Return whether a class has no code of its own between its fields and JSON."""
    cls: Any = info.cls
    hooks = ("__post_init__", "__attrs_post_init__", "__attrs_pre_init__", "__parameters__")
    if any(hasattr(cls, hook) for hook in hooks):
        return False
    if issubclass(cls, Struct):
        if cls.__struct_config__.omit_defaults or cls.__dictoffset__:
            return False
    elif not fitting.has_plain_attributes(cls):
        return False
    if any(field.validator for field in getattr(cls, "__attrs_attrs__", ())):
        return False
    if dataclasses.is_dataclass(cls) and not all(field.init for field in dataclasses.fields(cls)):
        return False
    return plan_of(cls).names == tuple(field.name for field in info.fields)


def _accepted(  # noqa: PLR0911  # one for each kind
    info: inspect.Type, made: dict[type, Check]
) -> Accepted | None:
    """Return what a field of a type may hold; None if it may be anything."""
    match info:
        case inspect.EnumType():
            return fitting.member_of(info.cls)
        case inspect.LiteralType():
            return fitting.one_of(info.values)
        case inspect.UnionType(types=(_, _), includes_none=True):
            (other,) = (one for one in info.types if not isinstance(one, inspect.NoneType))
            return fitting.or_none(_accepted(other, made))
        case inspect.ListType() | inspect.VarTupleType():
            items = _accepted(info.item_type, made)
            if items is None or info.min_length is not None or info.max_length is not None:
                return None
            kind = list if isinstance(info, inspect.ListType) else tuple
            return {kind: fitting.all_of(items)}
        case inspect.DictType(min_length=None, max_length=None):
            values = _accepted(info.value_type, made)
            is_text = _accepted(info.key_type, made) is fitting.TEXT
            if values is None or not is_text:
                return None
            return {dict: fitting.all_values_of(values, fitting.TEXT)}
        case inspect.DataclassType() | inspect.StructType():
            check = _record(info, made)
            return None if check is None else {info.cls: check}
        case _:
            names = info.__struct_fields__
            constrained = any(getattr(info, name) is not None for name in names)
            return None if constrained else _LEAVES.get(type(info))


_LEAVES: Final[Mapping[type, Accepted]] = {
    inspect.StrType: fitting.TEXT,
    inspect.IntType: fitting.INT,
    inspect.BoolType: fitting.BOOL,
    inspect.NoneType: fitting.NONE,
    inspect.BytesType: fitting.BYTES,
    inspect.FloatType: fitting.FLOAT,
    inspect.DecimalType: fitting.DECIMAL,
    inspect.UUIDType: fitting.ID,
    inspect.DateType: fitting.DATE,
    inspect.DateTimeType: fitting.TIME,
}
