"""Commits as the arguments of the server's statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

import msgspec

from eventport.adapter import Commit, EncodedEvent, StreamWrite, utc_to_microseconds
from eventport.errors import PayloadTooLargeError
from eventport.expectations import Expectation


MAX_BYTES: Final = 256 * 1024 * 1024
"""The largest commit; a message of PostgreSQL's protocol, and each value, end at 1 GiB."""

MAX_MESSAGE: Final = 1_000_000_000
"""The largest message. Beside data, it has the name of its stream and the type for each event."""

_EXPECTED: Final[Mapping[Expectation, int]] = {"any": -1, "stream_exists": -2, "no_stream": 0}


def arguments_of_one(write: StreamWrite) -> tuple[Any, ...]:
    """Return what the statement for a lone event takes first.

    Raises:
        PayloadTooLargeError: the event is larger than `MAX_BYTES`.
    """
    (event,) = write.events
    payload = event.data
    _check_size(write.events)
    return (
        write.stream,
        encode_expected(write.expected),
        event.type,
        payload if isinstance(payload, str) else None,
        payload if isinstance(payload, bytes) else None,
        event.metadata,
        event.id,
    )


def encode_expected(expected: Expectation) -> int:
    """Return an expectation as the functions take it: a version, or a number below 0."""
    return expected if isinstance(expected, int) else _EXPECTED[expected]


def _check_size(events: Sequence[EncodedEvent]) -> None:
    """Raise `PayloadTooLargeError` if events have more than `MAX_BYTES` in UTF-8."""
    # asyncpg will encode them; for all that are not near the limit it is enough to know that a
    # character has at most 4 bytes.
    size = sum(_bound(event.data) + _bound(event.metadata) for event in events)
    if size > MAX_BYTES:
        size = sum(_size(event.data) + _size(event.metadata) for event in events)
    if size > MAX_BYTES:
        message = f"an append of {size} bytes is too large: the most is {MAX_BYTES}"
        raise PayloadTooLargeError(message)


def _bound(data: str | bytes) -> int:
    return len(data) if isinstance(data, bytes) or data.isascii() else 4 * len(data)


def _size(data: str | bytes) -> int:
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def arguments_of(commits: Sequence[Commit]) -> tuple[list[EncodedEvent], tuple[object, ...]]:
    """Return the events of a batch, and the arguments that all functions for batches take."""
    streams: dict[str, int] = {}
    writes: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    commit_of, stream_of, expected_of, size_of = writes
    event_streams: list[str] = []
    event_writes: list[int] = []
    event_offsets: list[int] = []
    events: list[EncodedEvent] = []
    for number, commit in enumerate(commits, 1):
        for write in commit.writes:
            count = len(write.events)
            commit_of.append(number)
            stream_of.append(streams.setdefault(write.stream, len(streams) + 1))
            expected_of.append(encode_expected(write.expected))
            size_of.append(count)
            event_streams += [write.stream] * count
            event_writes += [len(commit_of)] * count
            event_offsets += range(1, count + 1)
            events += write.events
    _check_size(events)
    binary, firsts, sizes = _joined([event.data for event in events])
    arguments = (
        "\n".join(streams),
        *map(array_text, writes),
        "\n".join(event_streams),
        array_text(event_writes),
        array_text(event_offsets),
        "\n".join([event.type for event in events]),
        "\n".join([event.data if isinstance(event.data, str) else "" for event in events]),
        binary,
        "\n".join([event.metadata for event in events]),
        "{" + ",".join([f"{event.id.int:032x}" for event in events]) + "}",
        firsts,
        sizes,
    )
    _check_message(arguments)
    return events, arguments


def _check_message(arguments: Sequence[str | bytes | None]) -> None:
    """Raise `PayloadTooLargeError` if arguments are more than a message can hold."""
    values = [one for one in arguments if one is not None]
    size = sum(map(_bound, values))
    if size > MAX_MESSAGE:
        size = sum(map(_size, values))
    if size > MAX_MESSAGE:
        message = (
            f"an append that takes {size} bytes with its streams' names and types is too large: "
            f"the most is {MAX_MESSAGE}; append fewer events at once"
        )
        raise PayloadTooLargeError(message)


def tags_of(events: Sequence[EncodedEvent]) -> str | None:
    """Write the tags of each event as a line of JSON, or as an empty one; None for none at all."""
    if not any(event.tags for event in events):
        return None
    return "\n".join(
        [msgspec.json.encode(sorted(one.tags)).decode() if one.tags else "" for one in events]
    )


def _joined(data: Sequence[str | bytes]) -> tuple[bytes | None, str | None, str | None]:
    """Join what is bytes, and say where each begins, from 1, and its length; -1 for text."""
    binary = [one for one in data if isinstance(one, bytes)]
    if not binary:
        return None, None, None
    sizes = [len(one) if isinstance(one, bytes) else -1 for one in data]
    firsts = accumulate([max(size, 0) for size in sizes[:-1]], initial=1)
    return b"".join(binary), array_text(firsts), array_text(sizes)


def microseconds(time: datetime | None) -> int | str:
    """Return a time in microseconds since 1970, as a member of an array."""
    return "NULL" if time is None else utc_to_microseconds(time)


def array_text(values: Iterable[int | str]) -> str:
    """Write an array as PostgreSQL reads it."""
    return "{" + ",".join(map(str, values)) + "}"
