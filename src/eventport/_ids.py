"""Random ids: `uuid.uuid4`, with the system asked for many at a time, which costs a third."""

from __future__ import annotations

import os

from typing import Final
from uuid import UUID, SafeUUID


_POOL: Final = 256
"""How many ids are fetched at once."""

_VARIANT: Final = 0xC000 << 48
_VERSION: Final = 0xF000 << 64
_KEPT: Final = ~(_VARIANT | _VERSION)
_SET: Final = 0x8000 << 48 | 4 << 76

# Looked up once: a member is found by a descriptor in Python, and each id takes one.
_UNKNOWN: Final = SafeUUID.unknown

_ready: Final[list[bytes]] = []


def new_id() -> UUID:
    """Return a random UUID of version 4."""
    try:
        raw = _ready.pop()
    except IndexError:
        fetched = os.urandom(16 * _POOL)
        _ready.extend([fetched[start : start + 16] for start in range(16, len(fetched), 16)])
        raw = fetched[:16]
    # What `UUID.__init__` does, without its checks of all the forms that it takes.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(raw, "big") & _KEPT | _SET)
    object.__setattr__(made, "is_safe", _UNKNOWN)
    return made


if hasattr(os, "register_at_fork"):  # a forked child must not have the ids of its parent
    os.register_at_fork(after_in_child=_ready.clear)
