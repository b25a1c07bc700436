"""JSON values of all kinds, and ways to encode and compare them."""

from __future__ import annotations

import struct

from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final, cast

from hypothesis import strategies as st

from eventport import NewEvent
from eventport._engine.codec import (
    decode_event,
    encode_events,
    utc_from_microseconds,
)


NOW: Final = datetime(2024, 1, 1, tzinfo=UTC)


texts = st.text(st.characters(exclude_categories=["Cs"]))


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)


values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30
)


def nested(levels: int, *, in_dicts: bool = False) -> Any:
    """Nest lists or objects, the outermost being level 1."""
    if in_dicts:
        return reduce(lambda inner, _: {"k": inner}, range(levels - 1), cast("Any", {}))
    return reduce(lambda inner, _: [inner], range(levels - 1), cast("Any", []))


def there_and_back(data: object, metadata: dict[str, Any] | None = None) -> tuple[Any, Any]:
    [encoded] = encode_events([NewEvent("T", data, metadata or {})])
    event = decode_event(
        stream="s",
        version=1,
        position=1,
        type_=encoded.type,
        data=encoded.data,
        metadata=encoded.metadata,
        id_=encoded.id,
        recorded_at=utc_from_microseconds(0),
        tags=(),
    )
    return event.data, event.metadata


def same(left: Any, right: Any) -> bool:
    """Compare with types, the sign of zero and the order of keys."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return bool(left == right)


class Unshowable:
    def __repr__(self) -> str:
        raise LookupError("no repr")
