"""How errors of handlers are described: their class and place, and never the data in them."""

from __future__ import annotations

import traceback

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from eventport.errors import (
    EscapedCancellationError,
    NotSupportedError,
    StoreClosedError,
    StoreFencedError,
    StoreUnavailableError,
)
from eventport.events import RecordedEvent
from eventport.projections.checkpoints import DeadLetter
from eventport.projections.refusals import (
    CheckpointMismatchError,
    LeaseLostError,
    PartitionsChangedError,
    ProjectionStoppedError,
)
from eventport.typed import EventVersionError, UnknownEventTypeError


# Their texts name streams, versions, types, fields and reasons. What others write into theirs
# may be the data of an event.
_SAFE: Final = (
    EscapedCancellationError,
    EventVersionError,
    CheckpointMismatchError,
    ProjectionStoppedError,
    LeaseLostError,
    NotSupportedError,
    PartitionsChangedError,
    StoreClosedError,
    StoreFencedError,
    StoreUnavailableError,
    UnknownEventTypeError,
)
_LONGEST: Final = 2000


def describe(error: BaseException) -> str:
    """Describe an error by its class and the line that raised it.

    The text of a user's error is left out: it may hold the data of an event, and its `__str__`
    may fail.
    """
    kind = type(error).__name__
    if isinstance(error, _SAFE):
        return _storable(f"{kind}: {error}")
    frames = list(traceback.walk_tb(error.__traceback__))
    # The first frames are ours, and the last may be a library's: a handler's name helps most.
    outside = [frame for frame in frames if not _is_ours(frame[0].f_globals.get("__name__"))]
    if not outside:
        return _storable(kind)
    frame, line = outside[0]
    code = frame.f_code
    return _storable(f"{kind} in {code.co_name}, {Path(code.co_filename).name}:{line}")


def dead_letter(event: RecordedEvent, error: BaseException, attempts: int) -> DeadLetter:
    """Make the entry for an event that is given up."""
    return DeadLetter(
        event.position,
        event.stream,
        event.version,
        event.type,
        describe(error),
        attempts,
        datetime.now(UTC),
    )


def _is_ours(module: object) -> bool:
    names = ("eventport", "eventport_sqlite", "eventport_postgres", "contextlib")
    return isinstance(module, str) and module.partition(".")[0] in names


def _storable(text: str) -> str:
    """Return a text without what no backend can store, and at most 2,000 characters of it."""
    return text[:_LONGEST].encode(errors="backslashreplace").decode().replace("\0", "\\0")
