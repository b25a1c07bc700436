"""The statements that write batches, and the server's answers as outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from eventport.adapter import (
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Outcome,
    StreamWrite,
    Written,
    utc_from_microseconds,
)
from eventport.expectations import exact_version, holds

from eventport_postgres.arguments import (
    arguments_of,
    arguments_of_one,
    array_text,
    encode_expected,
    microseconds,
    tags_of,
)
from eventport_postgres.asking import AnyConnection, ask
from eventport_postgres.guards import (
    broken_guards,
    guards_json,
    has_tags_or_guards,
    locks_of_all,
)
from eventport_postgres.schema import Place, load_sql, quoted


CONFIRM: Final = "SELECT pg_catalog.pg_logical_emit_message(true, 'eventport', ''::pg_catalog.text)"
"""Writes to the log of the server, which nobody reads, and nothing else.

The end of its transaction waits for whatever ``synchronous_commit`` says, and what was visible
before it is as durable as that then.
"""


# The members of an array go through codecs that the caller may have set, unless they are text;
# and asyncpg looks at each of them several times. So each array is written as one text.
_ARRAYS: Final = {
    2: "int4",
    3: "int4",
    4: "int8",
    5: "int4",
    7: "int4",
    8: "int4",
    13: "uuid",
}
# Neither names nor JSON as we encode it have line ends in them, and none of them is empty.
_LINES: Final = (1, 6, 9, 10, 12)
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
_COLUMNS: Final = (
    "outcomes",
    "heads",
    "positions",
    "times",
    "earlier_positions",
    "earlier_times",
)
"""What the functions return, for `outcomes`."""

_LONE_COLUMNS: Final = 3
"""How many columns the statement for a lone event returns: version before, position, time."""

_numbers: Final = msgspec.json.Decoder(list[int]).decode


class Statements:
    """The statements that write batches into one schema.

    Args:
        schema: The schema, not quoted.
        place: The store that was found there.
        lock_timeout: How long a batch waits for a stream that another transaction keeps locked,
            such as ``50ms``; None leaves that to the settings of the connection.
    """

    def __init__(self, schema: str, place: Place, *, lock_timeout: str | None = None) -> None:
        name = quoted(schema)
        lone = load_sql("append_lone.sql", name)
        self._lone = lone.replace("{place}", str(place.number))
        arrays = {n: f"${n}::pg_catalog.text::pg_catalog.{_ARRAYS[n]}[]" for n in _ARRAYS}
        arrays |= {n: f"pg_catalog.string_to_array(${n}, E'\\n', '')" for n in _LINES}
        arrays[11] = _BYTES
        many = ", ".join(arrays[n] for n in range(2, 14))
        times = "$16::pg_catalog.text::pg_catalog.int8[]"
        guards = (
            "pg_catalog.string_to_array($17, E'\\n', ''), $18::pg_catalog.text::pg_catalog.int4[], "
            "$19::pg_catalog.text::pg_catalog.bool[], $20::pg_catalog.text"
        )
        guarded = (*_COLUMNS, "broken")
        self._many, self._copies, self._guarded = (
            _call(f"{name}.{function}", first, rest, lock_timeout, answer)
            for function, first, rest, answer in (
                ("append", arrays[1], f"{many}, {place.number}", _COLUMNS),
                ("append", arrays[1], f"{many}, {place.number}, {times}", _COLUMNS),
                (
                    "append_guarded",
                    arrays[1],
                    f"{many}, {place.number}, {times}, {guards}",
                    guarded,
                ),
            )
        )

    def write_first(self, commits: Sequence[Commit]) -> tuple[Any, ...]:
        """Return the statement to try first: for a lone event, one that may give no row.

        If it gives none, it has written nothing, and `write` is what to do.

        Raises:
            PayloadTooLargeError: there is more in it than the server can take.
        """
        if len(commits) == 1 and len(commits[0].writes) == 1:
            (write,) = commits[0].writes
            if len(write.events) == 1 and _is_plain(write.events[0]) and not commits[0].guards:
                return self._lone, *arguments_of_one(write)
        return self.write(commits)

    def write(self, commits: Sequence[Commit]) -> tuple[Any, ...]:
        """Return the statement that writes a batch, and its arguments.

        Raises:
            PayloadTooLargeError: there is more in it than the server can take.
        """
        events, arguments = arguments_of(commits)
        times = [event.recorded_at for event in events]
        stamps = array_text(map(microseconds, times)) if any(times) else None
        if has_tags_or_guards(commits):
            keys, exclusive = locks_of_all(commits)
            return (
                self._guarded,
                *arguments,
                stamps,
                tags_of(events),
                array_text(keys),
                array_text("t" if one else "f" for one in exclusive),
                guards_json(commits, encode_expected),
            )
        if stamps is not None:
            return self._copies, *arguments, stamps
        return self._many, *arguments


def _is_plain(event: EncodedEvent) -> bool:
    """Return whether an event has no more than the statement for a lone one takes."""
    return event.recorded_at is None and not event.tags


def _call(
    function: str, first: str, rest: str, lock_timeout: str | None, columns: Sequence[str]
) -> str:
    answer = ", ".join(f"a.{column}::pg_catalog.text" for column in columns)
    if lock_timeout is None:
        return f"SELECT {answer} FROM {function}({first}, {rest}) AS a"  # noqa: S608  # it is quoted
    # In the same round trip: what the function needs is set first, and put back when it is done.
    return f"""
        SELECT {answer}, pg_catalog.set_config('lock_timeout', s.before, true)
        FROM (
            SELECT pg_catalog.current_setting('lock_timeout'),
                   pg_catalog.set_config('lock_timeout', '{lock_timeout}', true)
        ) AS s(before, set), LATERAL {function}(
            CASE WHEN s.set IS NOT NULL THEN {first} END, {rest}
        ) AS a
    """  # noqa: S608  # it is quoted


async def write_batch(
    connection: AnyConnection,
    statements: Statements,
    commits: Sequence[Commit],
    request: tuple[Any, ...],
) -> list[Outcome]:
    """Let the server write a batch, by the statement to try first, and return the outcomes."""
    rows = await ask(connection, *request)
    if not rows:
        rows = await ask(connection, *statements.write(commits))
    elif len(rows[0]) == _LONE_COLUMNS:
        return [_lone_event(*rows[0])]
    found = outcomes(commits, rows[0])
    if only_found(found):
        await connection.execute(CONFIRM)
    return found


def outcomes(commits: Sequence[Commit], row: Iterable[Any]) -> list[Outcome]:
    """Read the server's answer to a batch."""
    codes, heads, positions, times, earlier_positions, earlier_times, *rest = row
    broken = broken_guards(rest[0], commits) if has_tags_or_guards(commits) else {}
    heads_of = iter(_list(heads))
    written = _events(positions, times)
    earlier = _events(earlier_positions, earlier_times)
    found: list[Outcome] = []
    for index, (commit, code) in enumerate(zip(commits, _list(codes), strict=True)):
        before = [next(heads_of) for _ in commit.writes]
        if code == 0:
            found.append(Committed(_written(commit, before, written)))
        elif code < 0:
            exact = [exact_version(write.expected) for write in commit.writes]
            firsts = [
                head if version is None else version
                for version, head in zip(exact, before, strict=True)
            ]
            found.append(Committed(_written(commit, firsts, earlier), deduplicated=True))
        elif index in broken:
            found.append(_stream_conflict(commit, before) or broken[index])
        else:
            write: StreamWrite = commit.writes[code - 1]
            found.append(Conflict(write.stream, write.expected, before[code - 1]))
    return found


def _stream_conflict(commit: Commit, heads: Sequence[int]) -> Conflict | None:
    """Return the conflict of a stream that is written, which counts before all guards."""
    seen: set[str] = set()
    for write, head in zip(commit.writes, heads, strict=True):
        if write.stream not in seen and not holds(write.expected, head):
            return Conflict(write.stream, write.expected, head)
        seen.add(write.stream)
    return None


def _lone_event(head: int, position: int, time: int) -> Committed:
    return Committed([Written(head + 1, (position,), head == 0, (utc_from_microseconds(time),))])


def only_found(found: Sequence[Outcome | None]) -> bool:
    """Return whether a batch has written nothing, but found what earlier ones had written.

    Such an answer did not wait for what the answers of those may still wait for: the disk, or a
    standby. See `CONFIRM`.
    """
    written = [one for one in found if isinstance(one, Committed)]
    return bool(written) and all(one.deduplicated for one in written)


def _list(text: str | None) -> list[int]:
    """Read an array as PostgreSQL writes it."""
    return _numbers(f"[{text[1:-1]}]") if text else []


def _events(positions: str | None, times: str | None) -> Iterator[tuple[int, datetime]]:
    """Give the position and the time of each event."""
    known: dict[int, datetime] = {}  # most events of a batch have the same
    for position, time in zip(_list(positions), _list(times), strict=True):
        if time not in known:
            known[time] = utc_from_microseconds(time)
        yield position, known[time]


def _written(
    commit: Commit, heads: Sequence[int], events: Iterator[tuple[int, datetime]]
) -> list[Written]:
    written: list[Written] = []
    for write, head in zip(commit.writes, heads, strict=True):
        own = [next(events) for _ in write.events]
        positions, times = [position for position, _ in own], [time for _, time in own]
        written.append(Written(head + len(own), positions, head == 0, times))
    return written
