"""JSON values: which of them every store holds without any loss, and their encoding."""

from __future__ import annotations

import marshal
import math
import re

from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from eventport.errors import InvalidEventError
from eventport.validation import show_key


MAX_DEPTH: Final = 64
"""How deep lists and objects may be nested; MongoDB holds 100 levels, and its adapter adds some."""

_INT64: Final = range(-(2**63), 2**63)

_SCALARS: Final[frozenset[object]] = frozenset({str, int, float, bool, type(None)})
_KEYS: Final[frozenset[object]] = frozenset({str})

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
# Integers beyond int64 have at least 19 digits, so other data needs no walk in Python.
_maybe_large: Final = re.compile(rb"[1-9]\d{18}").search


def encode_json(value: Any, name: str) -> bytes:
    """Encode a value that JSON holds without any loss; refuse all others.

    msgspec silently turns tuples, sets, times, NaN, integer keys and more into something else.
    Comparing the decoded copy finds those in C. What remains are instances of subclasses, such
    as an ``OrderedDict`` or an ``IntEnum``'s member, which compare equal to their plain copies:
    marshal refuses all that is not exactly of a built-in type, also in C. What it allocates costs
    more than all the rest, so flat objects, which most data is, do without it.
    """
    kind = type(cast("object", value))
    try:
        raw = _encode(value)
        if kind is not dict or not _is_flat(value):
            marshal.dumps(value, 2)
        faithful = _decode(raw) == value
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        reason = _diagnose(value, name) or f"{name} cannot be encoded: {type(exc).__name__}"
        raise InvalidEventError(reason) from exc
    if (
        not faithful
        or _maybe_large(raw)
        or b"\\u0000" in raw
        or (len(raw) > 2 * MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH)
    ) and (problem := _diagnose(value, name)):
        raise InvalidEventError(problem)
    return raw


def _is_flat(value: dict[Any, Any]) -> bool:
    """Return whether a dict holds text, numbers, bools and None alone, and no subclasses."""
    return _SCALARS.issuperset(map(type, value.values())) and _KEYS.issuperset(map(type, value))


def _diagnose(value: Any, name: str) -> str | None:
    """Name the first part of a value that cannot be stored, and the remedy."""
    return next(_problems(value, name, 1), None)


def _problems(value: Any, path: str, depth: int) -> Iterator[str]:  # noqa: C901, PLR0912
    kind = type(cast("object", value))
    if kind is dict or kind is list:
        if depth > MAX_DEPTH:
            yield f"{path[:60]}… is nested deeper than {MAX_DEPTH} levels: flatten it"
            return
        pairs = cast("dict[Any, Any]", value).items() if kind is dict else enumerate(value)
        for index, (key, item) in enumerate(pairs):
            if kind is dict:
                if type(key) is not str:
                    yield f"{path} has a key of type {kind_of(key)}: keys must be str"
                    continue
                if "\0" in key:
                    yield f"{path} has a key with U+0000 in it, which not every backend can hold"
                elif not is_unicode(key):
                    yield f"{path} has a key with a lone surrogate in it, which is not Unicode"
            shown = show_key(key, index) if kind is dict else index
            yield from _problems(item, f"{path}[{shown}]", depth + 1)
    elif kind is int:
        if value not in _INT64:
            yield f"{path} is an int beyond int64: store it as text"
    elif kind is float:
        if not math.isfinite(value):
            yield f"{path} is infinite or not a number, which JSON cannot hold: store None or text"
    elif kind is str:
        if not is_unicode(value):
            yield f"{path} is text with a lone surrogate in it, which is not Unicode"
    elif kind is not bool and value is not None:
        yield (
            f"{path} is a {kind_of(value)}, which is not a JSON value and would not come out as it "
            "went in: convert it to None, bool, int, float, str, list or dict"
            + (", or store bytes as the whole of data" if isinstance(value, bytes) else "")
        )


def is_unicode(text: str) -> bool:
    """Return whether text has no lone surrogates, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: object) -> str:
    """Name the type of a value that may hold data, so that no message quotes it."""
    return type(value).__name__
