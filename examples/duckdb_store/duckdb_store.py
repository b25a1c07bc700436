"""An event store in a DuckDB file: a worked example of an adapter for a SQL database.

DuckDB allows one process per file and one writer at a time, so positions are in commit order by
themselves. Its driver blocks, so each batch and each page is one hop to a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import duckdb

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from eventport import Capability, ConfigurationError, RecordedEvent, StoreUnavailableError, adapter


T = TypeVar("T")

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS events (
        position BIGINT PRIMARY KEY, stream TEXT, version BIGINT, type TEXT,
        text TEXT, blob BLOB, metadata TEXT, id UUID, recorded_at TIMESTAMP,
        tags TEXT[],
        UNIQUE (stream, version)
    )
"""
COLUMNS: Final = "position, stream, version, type, text, blob, metadata, id, recorded_at, tags"
LAST: Final = "SELECT coalesce(max(position), 0) FROM events"
HEAD: Final = "SELECT coalesce(max(version), 0), max(recorded_at) FROM events WHERE stream = ?"
STORED: Final = """
    SELECT id, position, recorded_at FROM events
    WHERE stream = ? AND version BETWEEN ? AND ? ORDER BY version
"""
# One statement for any number of events: executemany takes a millisecond for each.
INSERT: Final = """
    INSERT INTO events SELECT
        unnest(?::BIGINT[]), unnest(?::TEXT[]), unnest(?::BIGINT[]), unnest(?::TEXT[]),
        unnest(?::TEXT[]), unnest(?::BLOB[]), unnest(?::TEXT[]), unnest(?::UUID[]),
        unnest(?::TIMESTAMP[]), unnest(?::TEXT[][])
"""
READ: Final = f"""
    SELECT {COLUMNS} FROM events WHERE stream = ? AND version BETWEEN ? AND ? ORDER BY version
"""
READ_ALL: Final = f"""
    SELECT {COLUMNS} FROM events WHERE position > ? AND position <= ? ORDER BY position
"""
PAGE: Final = 1_000
"""How many events a page has, at most."""


class DuckDBEngine:
    """Keeps events in one table."""

    capabilities: frozenset[Capability] = frozenset(
        {Capability.SESSIONS, Capability.GLOBAL_ORDER, Capability.DURABLE}
    )
    limitations: Mapping[Capability, str] = {
        Capability.SHARED: "DuckDB lets one process open a file; use SQLite to share events",
        Capability.PUSH: "there are no commits by other processes",
        Capability.GUARDS: "this example checks only the streams that it writes; use SQLite",
        Capability.CONDITIONS: "this example has no index of tags; use SQLite",
        Capability.CATALOGUE: "this example has no list of its streams; use SQLite",
        Capability.TIMES: "each event gets the time of its commit",
    }

    def __init__(self, path: str) -> None:
        self.name = path
        self._db = duckdb.connect(path)
        self._db.execute(SCHEMA)
        self._turn = CapacityLimiter(1)  # a connection does one thing at a time

    async def commit(self, batch: Sequence[adapter.Commit], /) -> Sequence[adapter.Outcome]:
        return await self._run(self._write, batch)

    async def read_stream(self, query: adapter.StreamQuery, /) -> adapter.StreamPage:
        return await self._run(self._read_stream, query)

    async def read_all(self, query: adapter.AllQuery, /) -> adapter.AllPage:
        return await self._run(self._read_all, query)

    async def close(self) -> None:
        await self._run(self._db.close)

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        """Run something in a thread; it comes to its end even if the caller is cancelled."""
        try:
            return await run_sync(call, *args, limiter=self._turn)
        except duckdb.Error as exc:
            message = f"{self.name}: {type(exc).__name__}"
            raise StoreUnavailableError(message) from exc

    # In the thread.

    def _write(self, batch: Sequence[adapter.Commit]) -> list[adapter.Outcome]:
        """Write a batch in one transaction, in which nothing else can happen."""
        self._db.begin()
        try:
            outcomes = [self._apply(commit) for commit in batch]
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise
        return outcomes

    def _apply(self, commit: adapter.Commit) -> adapter.Outcome:
        planned = adapter.plan(commit, lambda stream: self._one(HEAD, stream)[0], self._stored)
        if not isinstance(planned, list):
            return planned
        pairs = zip(commit.writes, planned, strict=True)
        return adapter.Committed([self._insert(write, first) for write, first in pairs])

    def _insert(self, write: adapter.StreamWrite, first: int) -> adapter.Written:
        last = self._one(HEAD, write.stream)[1]
        now = datetime.now(UTC).replace(tzinfo=None)
        now = now if last is None else max(now, last)  # clocks may be set back
        start = self._one(LAST)[0] + 1
        rows: list[tuple[object, ...]] = []
        for i, event in enumerate(write.events):
            data = (None, event.data) if isinstance(event.data, bytes) else (event.data, None)
            row = (start + i, write.stream, first + i, event.type, *data, event.metadata)
            rows.append((*row, event.id, now, sorted(event.tags)))
        self._db.execute(INSERT, [list(column) for column in zip(*rows, strict=True)])
        count = len(rows)
        times = [now.replace(tzinfo=UTC)] * count
        return adapter.Written(first + count - 1, range(start, start + count), first == 1, times)

    def _stored(self, stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        rows = self._db.execute(STORED, (stream, first, last)).fetchall()
        return [(id_, position, time.replace(tzinfo=UTC)) for id_, position, time in rows]

    def _read_stream(self, query: adapter.StreamQuery) -> adapter.StreamPage:
        head = self._one(HEAD, query.stream)[0]
        wanted = query.clip(head)[:PAGE]
        if not wanted:
            return adapter.StreamPage([], head)
        rows = self._db.execute(READ, (query.stream, min(wanted), max(wanted))).fetchall()
        events = [_decode(*row) for row in rows]
        return adapter.StreamPage(events[::-1] if query.backwards else events, head)

    def _read_all(self, query: adapter.AllQuery) -> adapter.AllPage:
        head = self._one(LAST)[0]
        until = min(head, query.after + min(query.max_count, PAGE))
        rows = self._db.execute(READ_ALL, (query.after, until)).fetchall()
        events = [_decode(*row) for row in rows if query.matches(row[1], row[3], frozenset(row[9]))]
        return adapter.AllPage(events, max(until, query.after), head)

    def _one(self, sql: str, *values: object) -> Any:
        return self._db.execute(sql, values).fetchone()


class DuckDBEventStore(adapter.Store):
    """An event store in one DuckDB file, for one process."""

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Open the file that a URL names, such as ``duckdb:///orders.duckdb``."""
        path = url.removeprefix("duckdb:///")
        try:
            return cls(await run_sync(DuckDBEngine, path))
        except duckdb.Error as exc:
            message = f"{path} cannot be opened: {exc}"
            raise ConfigurationError(message) from exc


def _decode(  # one parameter for each column
    position: int,
    stream: str,
    version: int,
    type_: str,
    text: str | None,
    blob: bytes | None,
    metadata: str,
    id_: UUID,
    recorded_at: datetime,
    tags: list[str],
) -> RecordedEvent:
    return adapter.decode_event(
        stream=stream,
        version=version,
        position=position,
        type_=type_,
        data=text or blob or b"",
        metadata=metadata,
        id_=id_,
        recorded_at=recorded_at.replace(tzinfo=UTC),
        tags=tags,
    )
