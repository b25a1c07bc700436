"""What a caller may expect of a stream's version, and whether it holds."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias


Expectation: TypeAlias = int | Literal["any", "no_stream", "stream_exists"]
"""An exact version (0 means the same as ``"no_stream"``), or one of three names."""

ANY: Final = "any"
"""Whatever the stream's version is; never a conflict."""

NO_STREAM: Final = "no_stream"
"""The stream has no events yet."""

STREAM_EXISTS: Final = "stream_exists"
"""The stream has at least one event."""


def holds(expected: Expectation, actual: int) -> bool:
    """Return whether a stream at version `actual` (0 if missing) meets an expectation."""
    match expected:
        case "any":
            return True
        case "no_stream":
            return actual == 0
        case "stream_exists":
            return actual > 0
        case version:
            return actual == version


def exact_version(expected: Expectation) -> int | None:
    """Return the one version that an expectation allows, or None if it allows several."""
    if expected == "no_stream":
        return 0
    return expected if isinstance(expected, int) else None
