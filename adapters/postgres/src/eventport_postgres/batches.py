"""Commits as the arguments of the server's function, and its answer as outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

import msgspec

from eventport.adapter import (
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Outcome,
    StreamWrite,
    Written,
)
from eventport.codec import utc_from_microseconds
from eventport.errors import PayloadTooLargeError
from eventport.expectations import Expectation, exact_version

from eventport_postgres.schema import Place, quoted


MAX_BYTES: Final = 256 * 1024 * 1024
"""The largest commit; a message of PostgreSQL's protocol, and each value, end at 1 GiB."""

_EXPECTED: Final[Mapping[Expectation, int]] = {"any": -1, "stream_exists": -2, "no_stream": 0}


# The members of an array go through codecs that the caller may have set, unless they are text;
# and asyncpg looks at each of them, at numbers even twice. So arrays are written as text.
_ARRAYS: Final = {
    2: "int4",
    3: "int4",
    4: "int8",
    5: "int4",
    7: "int4",
    8: "int4",
    13: "uuid",
}
# For bytes that would double them: they come as one value, and as the places in it.
_BYTES: Final = """
    CASE WHEN $11::pg_catalog.bytea IS NOT NULL THEN ARRAY(
        SELECT CASE WHEN b.size OPERATOR(pg_catalog.>=) 0
            THEN pg_catalog.substring($11, b.first, b.size) END
        FROM ROWS FROM (
            pg_catalog.unnest($14::pg_catalog.text::pg_catalog.int4[]),
            pg_catalog.unnest($15::pg_catalog.text::pg_catalog.int4[])
        ) WITH ORDINALITY AS b(first, size, n) ORDER BY b.n
    ) END
"""
_ANSWER: Final = """
    a.outcomes::pg_catalog.text, a.heads::pg_catalog.text, a.positions::pg_catalog.text,
    a.written_at, a.earlier_positions::pg_catalog.text,
    ARRAY(
        SELECT (EXTRACT(epoch FROM e.at) OPERATOR(pg_catalog.*) 1000000)::bigint
        FROM pg_catalog.unnest(a.earlier_at) WITH ORDINALITY AS e(at, n) ORDER BY e.n
    )::pg_catalog.text
"""
"""What the functions return, for `outcomes`."""

_numbers: Final = msgspec.json.Decoder(list[int]).decode


class Statements:
    """The statements that write batches into one schema."""

    def __init__(self, schema: str, place: Place) -> None:
        name, here = quoted(schema), place.number
        one = ", ".join(f"${n}" for n in range(1, 8))
        self._one = f"SELECT {_ANSWER} FROM {name}.append_one({one}, {here}) AS a"  # noqa: S608  # quoted
        arrays = {n: f"${n}::pg_catalog.text::pg_catalog.{_ARRAYS[n]}[]" for n in _ARRAYS}
        arrays[11] = _BYTES
        many = ", ".join(arrays.get(n, f"${n}") for n in range(1, 14))
        self._many = f"SELECT {_ANSWER} FROM {name}.append({many}, {here}) AS a"  # noqa: S608  # quoted

    def write(self, commits: Sequence[Commit]) -> tuple[Any, ...]:
        """Return the statement that writes a batch, and its arguments.

        Raises:
            PayloadTooLargeError: there is more in it than the server can take.
        """
        if len(commits) == 1 and len(commits[0].writes) == 1:
            (write,) = commits[0].writes
            if len(write.events) == 1:
                return self._one, *_arguments_of_one(write)
        return self._many, *_arguments(commits)


def outcomes(commits: Sequence[Commit], row: Iterable[Any]) -> list[Outcome]:
    """Read the server's answer to a batch."""
    codes, heads, positions, written_at, earlier, earlier_at = row
    heads_of, places = iter(_list(heads)), iter(_list(positions))
    earlier_places, earlier_times = iter(_list(earlier)), iter(_list(earlier_at))
    found: list[Outcome] = []
    for commit, code in zip(commits, _list(codes), strict=True):
        before = [next(heads_of) for _ in commit.writes]
        if code == 0:
            found.append(Committed(_written(commit, before, places), written_at))
        elif code < 0:
            firsts = [exact_version(write.expected) or 0 for write in commit.writes]
            written = _written(commit, firsts, earlier_places)
            at = utc_from_microseconds(next(earlier_times))
            found.append(Committed(written, at, deduplicated=True))
        else:
            write: StreamWrite = commit.writes[code - 1]
            found.append(Conflict(write.stream, write.expected, before[code - 1]))
    return found


def _arguments_of_one(write: StreamWrite) -> tuple[Any, ...]:
    (event,) = write.events
    payload = event.data
    _check_size(write.events)
    return (
        write.stream,
        _encode_expected(write.expected),
        event.type,
        payload if isinstance(payload, str) else None,
        payload if isinstance(payload, bytes) else None,
        event.metadata,
        event.id,
    )


def _encode_expected(expected: Expectation) -> int:
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


def _arguments(commits: Sequence[Commit]) -> tuple[object, ...]:
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
            expected_of.append(_encode_expected(write.expected))
            size_of.append(count)
            event_streams += [write.stream] * count
            event_writes += [len(commit_of)] * count
            event_offsets += range(1, count + 1)
            events += write.events
    _check_size(events)
    binary, firsts, sizes = _joined([event.data for event in events])
    return (
        list(streams),
        *map(_text, writes),
        event_streams,
        _text(event_writes),
        _text(event_offsets),
        [event.type for event in events],
        [event.data if isinstance(event.data, str) else None for event in events],
        binary,
        [event.metadata for event in events],
        _text([event.id for event in events]),
        firsts,
        sizes,
    )


def _joined(data: Sequence[str | bytes]) -> tuple[bytes | None, str | None, str | None]:
    """Join what is bytes, and say where each begins, from 1, and its length; -1 for text."""
    binary = [one for one in data if isinstance(one, bytes)]
    if not binary:
        return None, None, None
    sizes = [len(one) if isinstance(one, bytes) else -1 for one in data]
    firsts = accumulate([max(size, 0) for size in sizes[:-1]], initial=1)
    return b"".join(binary), _text(firsts), _text(sizes)


def _text(values: Iterable[int | UUID]) -> str:
    """Write an array as PostgreSQL reads it."""
    return "{" + ",".join(map(str, values)) + "}"


def _list(text: str | None) -> list[int]:
    """Read an array as PostgreSQL writes it."""
    return _numbers(f"[{text[1:-1]}]") if text else []


def _written(commit: Commit, heads: Sequence[int], positions: Iterator[int]) -> list[Written]:
    return [
        Written(head + len(write.events), [next(positions) for _ in write.events], head == 0)
        for write, head in zip(commit.writes, heads, strict=True)
    ]
