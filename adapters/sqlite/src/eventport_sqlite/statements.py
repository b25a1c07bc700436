"""What happens in a connection's own thread: plain `sqlite3`, a whole batch or page at a time."""

from __future__ import annotations

import json
import sqlite3
import time

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    Seen,
    StreamPage,
    StreamQuery,
    StreamWrite,
    Written,
    decode_event,
    plan,
    utc_from_microseconds,
    utc_to_microseconds,
)
from eventport.errors import CorruptEventError
from eventport.events import RecordedEvent
from eventport.expectations import exact_version
from eventport.results import StreamInfo

from eventport_sqlite.database import Database
from eventport_sqlite.matching import condition, first_unseen, positions


PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends at about this size, so that it neither fills the memory nor holds up other reads."""

_EVENT_BYTES: Final = 512
"""About how many bytes an event takes in memory besides its data."""

SCAN: Final = 100_000
"""How many positions a filtered page scans, so that other readers are not held up."""

_HEAD: Final = "SELECT max(version) FROM eventport_events WHERE stream = ?"
_NEWEST: Final = """
    SELECT version, recorded_at FROM eventport_events
    WHERE stream = ? ORDER BY version DESC LIMIT 1
"""
_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'eventport_events'"
_STORED: Final = """
    SELECT id, position, recorded_at FROM eventport_events
    WHERE stream = ? AND version BETWEEN ? AND ? ORDER BY version
"""
_INSERT: Final = """
    INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at, tags)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
# All of a lone append: a statement of its own is a transaction that begins with the write lock.
# Each takes the same values; the last one is the version that is expected, or null.
_LONE: Final = """
    INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at)
    SELECT ?1, %s, ?2, ?3, ?4, ?5, %s FROM (%s) AS h WHERE %s
"""
_HEAD_OF_LONE: Final = """
    SELECT version, recorded_at FROM eventport_events WHERE stream = ?1
    ORDER BY version DESC LIMIT 1
"""
_APPEND_FIRST: Final = _LONE % (
    "1",
    "?6",
    "SELECT 1",
    "?7 = 0 AND NOT EXISTS (SELECT 1 FROM eventport_events WHERE stream = ?1)",
)
_APPEND_NEXT: Final = _LONE % (
    "h.version + 1",
    "max(?6, h.recorded_at)",
    _HEAD_OF_LONE,
    "h.version = ?7",
)
_APPEND: Final = (
    _LONE
    % (
        "coalesce(h.version, 0) + 1",
        "max(?6, coalesce(h.recorded_at, 0))",
        f"SELECT * FROM (SELECT 1) LEFT JOIN ({_HEAD_OF_LONE})",  # noqa: S608  # as above
        "?7 IS NULL OR coalesce(h.version, 0) = ?7",
    )
    + "RETURNING position, version, recorded_at"
)
_INSERT_TAG: Final = "INSERT INTO eventport_tags (tag, position) VALUES (?, ?)"
_COLUMNS: Final = "stream, version, position, type, data, metadata, id, recorded_at, tags"
_READ: Final = f"""
    SELECT {_COLUMNS} FROM eventport_events
    WHERE stream = ? AND version BETWEEN ? AND ? ORDER BY version %s
"""  # noqa: S608  # no value goes into the text
_READ_FORWARDS: Final = _READ % "ASC"
_READ_BACKWARDS: Final = _READ % "DESC"

# From each name one step in the index leads to the next one, however many events lie between.
_STREAMS: Final = """
    WITH RECURSIVE names (stream) AS (
        SELECT min(stream) FROM eventport_events WHERE stream >= :first
        UNION ALL
        SELECT (SELECT min(e.stream) FROM eventport_events e WHERE e.stream > names.stream)
        FROM names WHERE names.stream < coalesce(:end, names.stream || ' ')
        LIMIT :count
    )
    SELECT e.stream, e.version, e.position, e.recorded_at
    FROM names CROSS JOIN eventport_events e ON e.stream = names.stream AND e.version = (
        SELECT max(h.version) FROM eventport_events h WHERE h.stream = names.stream
    )
    WHERE names.stream < coalesce(:end, names.stream || ' ')
"""


def write_commit(db: sqlite3.Connection, commit: Commit, now: int) -> Outcome:
    """Write one commit in the transaction that is open, at a time in microseconds.

    If the clock was set back, the time is that of the newest event of its streams.
    """

    def head(stream: str) -> int:
        nonlocal now
        newest: tuple[int, int] | None = db.execute(_NEWEST, (stream,)).fetchone()
        if newest is None:
            return 0
        version, recorded_at = newest
        now = max(now, recorded_at)
        return version

    def stored(stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        rows = db.execute(_STORED, (stream, first, last))
        return [(UUID(bytes=id_), place, utc_from_microseconds(at)) for id_, place, at in rows]

    planned = plan(commit, head, stored, partial(first_unseen, db))
    if not isinstance(planned, list):
        return planned
    written: list[Written] = []
    for write, first in zip(commit.writes, planned, strict=True):
        stream = write.stream
        times, stamps = _times(write, now)
        row, *rows = [
            (
                *(stream, version, event.type, event.data, event.metadata, event.id.bytes, at),
                json.dumps(sorted(event.tags)) if event.tags else None,
            )
            for version, (event, at) in enumerate(zip(write.events, stamps, strict=True), first)
        ]
        now = max(now, stamps[-1])  # the next write may be to the same stream
        position = db.execute(_INSERT, row).lastrowid or 0
        if rows:
            db.executemany(_INSERT, rows)
        # This transaction is the only one that writes, so AUTOINCREMENT leaves no gap in it.
        positions = range(position, position + len(write.events))
        if tags := [
            (tag, place)
            for event, place in zip(write.events, positions, strict=True)
            for tag in event.tags
        ]:
            db.executemany(_INSERT_TAG, tags)
        written.append(Written(first + len(rows), positions, first == 1, times))
    return Committed(written)


def _times(write: StreamWrite, now: int) -> tuple[list[datetime], list[int]]:
    """Return the time of each event, as `StreamWrite.times` does, and the same in microseconds."""
    time_ = utc_from_microseconds(now)
    if all(event.recorded_at is None for event in write.events):
        return [time_] * len(write.events), [now] * len(write.events)
    times = write.times(time_)
    return times, [utc_to_microseconds(one) for one in times]


def write_commits(db: Database, commits: Sequence[Commit]) -> list[Outcome]:
    """Write a batch; a lone event in one statement, which costs a third of a transaction."""
    if len(commits) == 1 and (write := _lone_write(commits[0])) is not None:
        committed = _append(db, write, detailed=commits[0].detailed)
        if committed is not None:
            return [committed]
    return write_batch(db, commits)


def write_batch(db: Database, commits: Sequence[Commit]) -> list[Outcome]:
    """Write a batch in one transaction, which only this process's writer can be in."""
    db.begin()
    try:
        now = time.time_ns() // 1_000
        outcomes = [write_commit(db, commit, now) for commit in commits]
        db.commit()
    except BaseException:
        db.rollback()  # it does nothing if SQLite has done so already
        raise
    return outcomes


def _lone_write(commit: Commit) -> StreamWrite | None:
    """Return the write of a commit of one event, if it depends on nothing but its stream."""
    if len(commit.writes) != 1 or commit.guards:
        return None
    (write,) = commit.writes
    event, *others = write.events
    if others or event.tags or event.recorded_at is not None:
        return None
    return None if write.expected == "stream_exists" else write


def _append(db: Database, write: StreamWrite, *, detailed: bool) -> Committed | None:
    """Append one event; None if the expectation does not hold, or an earlier try has written it."""
    (event,) = write.events
    now = time.time_ns() // 1_000
    expected = exact_version(write.expected)
    values = (write.stream, event.type, event.data, event.metadata, event.id.bytes, now, expected)
    statement = _APPEND
    if expected is not None and not (detailed and expected):
        statement = _APPEND_NEXT if expected else _APPEND_FIRST
    db.require_file()
    try:
        cursor, rows = db.when_free(statement, values)
    except sqlite3.OperationalError:
        db.require_file()  # that says more; nothing was written
        raise
    db.confirm_file()
    if rows:
        ((position, version, at),) = rows
    elif cursor.rowcount == 1 and expected is not None:
        # The shorter statements do not return what is known, or what nobody waits for.
        position, version, at = cursor.lastrowid or 0, expected + 1, now
    else:
        return None
    times = (utc_from_microseconds(at),) if detailed else ()
    return Committed([Written(version, (position,), version == 1, times)])


def read_stream(db: sqlite3.Connection, query: StreamQuery) -> StreamPage:
    """Read a page of a stream."""
    # The head is read first and bounds the events, so both are of one moment.
    head = _head(db, query.stream)
    wanted = query.clip(head)
    if not wanted:
        return StreamPage([], head)
    sql = _READ_BACKWARDS if query.backwards else _READ_FORWARDS
    events, _ = _take_page(db.execute(sql, (query.stream, min(wanted), max(wanted))))
    return StreamPage(events, head)


def read_streams(db: sqlite3.Connection, streams: Sequence[str]) -> dict[str, StreamPage]:
    """Read first pages of streams, until together they are as large as a page."""
    pages: dict[str, StreamPage] = {}
    left = PAGE_BYTES
    for stream in streams:
        head = _head(db, stream)
        events, size = _take_page(db.execute(_READ_FORWARDS, (stream, 1, head)))
        pages[stream] = StreamPage(events, head)
        left -= size
        if left < 0:
            break
    return pages


def read_heads(db: sqlite3.Connection, streams: Sequence[str]) -> dict[str, int]:
    """Find where many streams end."""
    return {stream: _head(db, stream) for stream in streams}


def read_all(db: sqlite3.Connection, query: AllQuery) -> AllPage:
    """Read a page of all streams."""
    row = db.execute(_LAST).fetchone()
    head = row[0] if row else 0
    if query.after >= head:
        return AllPage([], query.after, head)
    where, values = "", list[Any]()
    if query.types is not None:
        where += " AND type IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(sorted(query.types)))
    if query.prefix is not None:
        where += " AND substr(stream, 1, length(?)) = ?"
        values += (query.prefix, query.prefix)
    if query.stream is not None:
        where += " AND stream = ?"
        values.append(query.stream)
    if query.query is not None:
        matching, tags = condition(query.query)
        where += f" AND {matching}"
        values += tags
    until = min(head, query.after + SCAN) if where else head
    sql = (
        f"SELECT {_COLUMNS} FROM eventport_events e "  # noqa: S608  # no value goes into the text
        f"WHERE position > ? AND position <= ?{where} ORDER BY position LIMIT ?"
    )
    rows = db.execute(sql, (query.after, until, *values, query.max_count))
    events, size = _take_page(rows)
    if events and (size > PAGE_BYTES or len(events) == query.max_count):
        until = events[-1].position
    return AllPage(events, until, head)


def read_matches(db: sqlite3.Connection, query: MatchQuery) -> MatchPage:
    """Read a page of what matches a query."""
    row = db.execute(_LAST).fetchone()
    head: int = row[0] if row else 0
    until = head if query.until is None else min(query.until, head)
    count = -1 if query.max_count is None else query.max_count
    found, values = positions(query.query, query.after, until, count, backwards=query.backwards)
    sql = (
        f"SELECT {_COLUMNS} FROM ({found}) JOIN eventport_events e ON e.position = place "  # noqa: S608  # as above
        f"ORDER BY position {'DESC' if query.backwards else 'ASC'}"
    )
    events, size = _take_page(db.execute(sql, values))
    return MatchPage(events, head, Seen(head), more=size > PAGE_BYTES)


def list_streams(db: sqlite3.Connection, query: NameQuery) -> list[StreamInfo]:
    """Read a page of streams by name."""
    values = {"first": query.first, "end": query.end, "count": query.max_count}
    return [
        StreamInfo(stream, version, position, utc_from_microseconds(at))
        for stream, version, position, at in db.execute(_STREAMS, values).fetchall()
    ]


def _head(db: sqlite3.Connection, stream: str) -> int:
    head: int | None = db.execute(_HEAD, (stream,)).fetchone()[0]
    return head or 0


def _take_page(cursor: sqlite3.Cursor) -> tuple[list[RecordedEvent], int]:
    """Decode rows until the page is full; return its size, which is then above `PAGE_BYTES`."""
    events: list[RecordedEvent] = []
    size = 0
    # An open cursor is an open read transaction, which would keep the log from being reset.
    with closing(cursor) as rows:
        for row in rows:
            events.append(_decode(*row))
            size += _size(row[4]) + _size(row[5]) + _EVENT_BYTES
            if size > PAGE_BYTES:
                break
    return events, size


def _size(data: str | bytes) -> int:
    """Return how many bytes data takes in the file."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def _decode(
    stream: str,
    version: int,
    position: int,
    type_: str,
    data: str | bytes,
    metadata: str,
    id_: bytes,
    recorded_at: int,
    tags: str | None,
) -> RecordedEvent:
    try:
        uuid, time_ = UUID(bytes=id_), utc_from_microseconds(recorded_at)
        return decode_event(
            stream=stream,
            version=version,
            position=position,
            type_=type_,
            data=data,
            metadata=metadata,
            id_=uuid,
            recorded_at=time_,
            tags=json.loads(tags) if tags else (),
        )
    except (TypeError, ValueError, OverflowError) as exc:
        message = f"the event at position {position} was not written by eventport: {exc}"
        raise CorruptEventError(message) from exc
