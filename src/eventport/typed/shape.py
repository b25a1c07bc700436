"""The shape of a type: a fingerprint that changes whenever its JSON form may change."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from msgspec import inspect

from eventport.typed.conversion import is_pydantic


_SIMPLE: Final = (type(None), bool, int, float, str, bytes)
"""Types of defaults whose repr is the same in each process."""


def shape_of(kind: Any) -> str:
    """Return the fingerprint of a type: its fields, their names and types, all the way down.

    It is the same in each process, and for classes of other names that have the same shape.
    """
    text = " ".join(_describe(inspect.type_info(kind), set()))
    return sha256(text.encode()).hexdigest()[:16]


def _describe(info: inspect.Type, above: set[type]) -> Iterator[str]:
    """Give the parts of a type's description; `above` are the classes that it stands in."""
    yield type(info).__name__
    cls: Any = getattr(info, "cls", None)
    if isinstance(info, inspect.EnumType):
        yield repr([(member.name, member.value) for member in cls])
    elif is_pydantic(cls):
        yield msgspec.json.encode(cls.model_json_schema(), order="deterministic").decode()
    elif isinstance(info, inspect.CustomType):
        yield f"{cls.__module__}.{cls.__qualname__}"
    elif cls in above:
        yield cls.__name__
    else:
        for name in info.__struct_fields__:
            if name != "cls":
                yield f"{name}="
                yield from _part(getattr(info, name), above if cls is None else {*above, cls})
        if config := getattr(cls, "__struct_config__", None):
            yield f"omit_defaults={config.omit_defaults}"


def _part(part: Any, above: set[type]) -> Iterator[str]:
    if isinstance(part, inspect.Type):
        yield from _describe(part, above)
    elif isinstance(part, tuple):
        several = cast("tuple[object, ...]", part)
        yield "("
        for one in several:
            yield from _part(one, above)
        yield ")"
    elif isinstance(part, inspect.Field):
        yield repr((part.name, part.encode_name, part.required))
        yield from _describe(part.type, above)
        yield from _part(part.default, above)
    elif isinstance(part, _SIMPLE):
        yield repr(part)
    else:
        yield type(part).__name__
