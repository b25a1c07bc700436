"""Events: new ones as callers make them, recorded ones as stores return them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet  # msgspec resolves field types at run time
from datetime import datetime  # as above
from typing import TYPE_CHECKING, Any, Final, Generic
from uuid import UUID

from msgspec import Struct, field

from eventport._ids import new_id


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar  # a default, which only type checkers see, takes Python 3.13

    T_co = TypeVar("T_co", covariant=True)


NO_TAGS: Final = frozenset[str]()
"""The tags of an event that has none. All of them share it: Python makes each other empty frozenset
anew, which takes more memory than the rest of a small event."""


class NewEvent(Struct, frozen=True):
    """An event to be appended.

    It is checked and copied by the append, so that changing `data` afterwards changes nothing
    that is stored.
    """

    type: str
    """What happened, such as ``"OrderPlaced"``: up to 500 UTF-8 bytes, no control characters."""
    data: Any
    """Bytes, or JSON: ``None``, bool, int64, finite float, str, list, dict with str keys."""
    metadata: dict[str, Any] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]  # an alias is slower to call
    """A JSON object about the event; it cannot override anything that the store records."""
    id: UUID = field(default_factory=new_id)
    """The event's identity. An append that is retried with the same ids is not written twice."""
    tags: AbstractSet[str] = NO_TAGS
    """What it is about, such as ``{"course:1", "student:7"}``, so that a `Query` finds it.

    At most 50, each of 1 to 200 UTF-8 bytes without control characters.
    """


class CopiedEvent(NewEvent, frozen=True, kw_only=True):
    """An event that was recorded before, in another store, to be appended with its time.

    Stores with `Capability.TIMES` keep that time; the others refuse it. The event otherwise
    counts as any other, so that a copy can be repeated.
    """

    recorded_at: datetime
    """When the event was first recorded anywhere: an aware time."""

    @classmethod
    def of(cls, event: RecordedEvent[Any]) -> CopiedEvent:
        """Return what has to be appended to another store to copy an event there."""
        return cls(
            event.type,
            event.data,
            event.metadata,
            event.id,
            event.tags,
            recorded_at=event.recorded_at,
        )


class RecordedEvent(Struct, Generic[T_co], frozen=True):
    """An event as it stands in the store. Each read makes a fresh copy.

    `RecordedEvent[OrderPlaced]` is one whose data was turned into that class; what a store
    returns is `RecordedEvent[Any]`, for which the bare name is enough.
    """

    stream: str
    """The stream that the event belongs to."""
    version: int
    """Its place in its stream, from 1 without gaps."""
    position: int
    """Its place in the order of the whole store: positive, increasing, with gaps.

    0 for an event that is read back inside the session that has not committed it yet.
    """
    type: str
    """What happened."""
    data: T_co
    """The JSON value or the bytes that were appended, or what they were decoded to."""
    metadata: dict[str, Any]
    """The JSON object that was appended with it."""
    id: UUID
    """The event's identity."""
    recorded_at: datetime
    """When it was first recorded, by this store or by the one that it was copied from.

    Aware, UTC, in microseconds. A store that stamps an event never lets it go back within a
    stream; copies keep what they have. For an event of a session that has not committed yet it
    is provisional.
    """
    tags: frozenset[str] = NO_TAGS
    """What it is about, as it was appended."""
