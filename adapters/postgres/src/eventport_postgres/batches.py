"""Commits as the arguments of the server's function, and its answer as outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from eventport.adapter import Commit, Committed, Conflict, Outcome, StreamWrite, Written
from eventport.errors import PayloadTooLargeError
from eventport.expectations import Expectation, exact_version

from eventport_postgres.schema import quoted


MAX_BYTES: Final = 256 * 1024 * 1024
"""The largest commit; a message of PostgreSQL's protocol, and each value, end at 1 GiB."""

CONFIRM: Final = "SELECT pg_catalog.pg_logical_emit_message(true, 'eventport', ''::text)"
"""Writes to the log of the server, which nobody reads, and nothing else.

The end of its transaction waits for whatever ``synchronous_commit`` says, and what was visible
before it is as durable as that then.
"""

_EXPECTED: Final[Mapping[Expectation, int]] = {"any": -1, "stream_exists": -2, "no_stream": 0}


# asyncpg looks at each member of an array, at numbers even twice: as text they are faster.
_INTEGERS: Final = {2: "int4", 3: "int4", 4: "int8", 5: "int4", 7: "int4", 8: "int4"}


class Statements:
    """The statements that write batches into one schema.

    Args:
        schema: The schema, not quoted.
        lock_timeout: How long a batch waits for a stream that another transaction keeps locked,
            such as ``50ms``; None leaves that to the settings of the connection.
    """

    def __init__(self, schema: str, *, lock_timeout: str | None = None) -> None:
        name = quoted(schema)
        one = ", ".join(f"${n}" for n in range(2, 8))
        many = ", ".join(
            f"${n}::text::{_INTEGERS[n]}[]" if n in _INTEGERS else f"${n}" for n in range(2, 14)
        )
        self._one, self._many = (
            _call(f"{name}.{function}", type_, rest, lock_timeout)
            for function, type_, rest in (("append_one", "text", one), ("append", "text[]", many))
        )

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


def _call(function: str, type_: str, rest: str, lock_timeout: str | None) -> str:
    if lock_timeout is None:
        return f"SELECT a.* FROM {function}($1, {rest}) AS a"  # noqa: S608  # it is quoted
    # In the same round trip: what the function needs is set first, and put back when it is done.
    return f"""
        SELECT a.*, pg_catalog.set_config('lock_timeout', s.before, true)
        FROM (
            SELECT pg_catalog.current_setting('lock_timeout'),
                   pg_catalog.set_config('lock_timeout', '{lock_timeout}', true)
        ) AS s(before, set), LATERAL {function}(
            CASE WHEN s.set IS NOT NULL THEN $1::{type_} END, {rest}
        ) AS a
    """  # noqa: S608  # it is quoted


def outcomes(commits: Sequence[Commit], row: Iterable[Any]) -> list[Outcome]:
    """Read the server's answer to a batch."""
    codes, heads, positions, written_at, earlier, earlier_at, *_ = row
    heads_of, places = iter(heads), iter(positions or ())
    earlier_places, earlier_times = iter(earlier or ()), iter(earlier_at or ())
    found: list[Outcome] = []
    for commit, code in zip(commits, codes, strict=True):
        before = [next(heads_of) for _ in commit.writes]
        if code == 0:
            found.append(Committed(_written(commit, before, places), written_at))
        elif code < 0:
            firsts = [exact_version(write.expected) or 0 for write in commit.writes]
            written = _written(commit, firsts, earlier_places)
            found.append(Committed(written, next(earlier_times), deduplicated=True))
        else:
            write: StreamWrite = commit.writes[code - 1]
            found.append(Conflict(write.stream, write.expected, before[code - 1]))
    return found


def only_found(found: Sequence[Outcome | None]) -> bool:
    """Return whether a batch has written nothing, but found what earlier ones had written.

    Such an answer did not wait for what the answers of those may still wait for: the disk, or a
    standby. See `CONFIRM`.
    """
    written = [one for one in found if isinstance(one, Committed)]
    return bool(written) and all(one.deduplicated for one in written)


def _arguments_of_one(write: StreamWrite) -> tuple[Any, ...]:
    (event,) = write.events
    payload = event.data
    _check_size(len(payload) + len(event.metadata))
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


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        message = f"an append of {size} bytes is too large: the most is {MAX_BYTES}"
        raise PayloadTooLargeError(message)


def _arguments(commits: Sequence[Commit]) -> tuple[Sequence[Any] | None, ...]:
    streams: dict[str, int] = {}
    writes: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    commit_of, stream_of, expected_of, size_of = writes
    event_streams: list[str] = []
    event_writes: list[int] = []
    event_offsets: list[int] = []
    types: list[str] = []
    data: list[str | None] = []
    binary: list[bytes | None] = []
    metadata: list[str] = []
    ids: list[UUID] = []
    size = 0
    for number, commit in enumerate(commits, 1):
        for write in commit.writes:
            commit_of.append(number)
            stream_of.append(streams.setdefault(write.stream, len(streams) + 1))
            expected_of.append(_encode_expected(write.expected))
            size_of.append(len(write.events))
            for offset, event in enumerate(write.events, 1):
                event_streams.append(write.stream)
                event_writes.append(len(commit_of))
                event_offsets.append(offset)
                types.append(event.type)
                payload = event.data
                data.append(payload if isinstance(payload, str) else None)
                binary.append(payload if isinstance(payload, bytes) else None)
                metadata.append(event.metadata)
                ids.append(event.id)
                size += len(event.data) + len(event.metadata)
    _check_size(size)
    return (
        list(streams),
        *map(_text, writes),
        event_streams,
        _text(event_writes),
        _text(event_offsets),
        types,
        data,
        binary if any(binary) else None,
        metadata,
        ids,
    )


def _text(numbers: Sequence[int]) -> str:
    """Write an array as PostgreSQL reads it."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _written(commit: Commit, heads: Sequence[int], positions: Iterator[int]) -> list[Written]:
    return [
        Written(head + len(write.events), [next(positions) for _ in write.events], head == 0)
        for write, head in zip(commit.writes, heads, strict=True)
    ]
