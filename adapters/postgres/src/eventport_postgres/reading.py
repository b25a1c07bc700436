"""Pages of events: what is asked of the server, and its rows decoded."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import convert

from eventport.adapter import AllPage, StreamPage, decode_event
from eventport.events import RecordedEvent

from eventport_postgres.schema import AnyConnection, quoted


SCAN: Final = 100_000
"""How many positions a filtered page looks at, so that a rare filter does not take for ever."""


class Reader:
    """The queries on one schema; each takes the connection to ask."""

    def __init__(self, schema: str) -> None:
        events = f"{quoted(schema)}.events"
        columns = (
            "e.position, e.stream, e.version, e.type, e.data::text, e.binary_data, "
            "e.metadata::text, e.id, e.recorded_at"
        )
        self._head = f"SELECT max(version) FROM {events} WHERE stream = $1"  # noqa: S608  # quoted
        # One statement, so that the head and the events are of one moment.
        self._forwards, self._backwards = (
            f"""
            SELECT h.head, e.* FROM ({self._head}) AS h(head)
            LEFT JOIN LATERAL (
                SELECT {columns} FROM {events} e
                WHERE e.stream = $1 AND e.version >= $2 AND e.version <= $3
                ORDER BY e.version {order} LIMIT $4
            ) AS e ON true
            """  # noqa: S608  # quoted
            for order in ("ASC", "DESC")
        )
        self._all = f"SELECT * FROM {quoted(schema)}.read_all($1, $2, $3, $4, {SCAN})"  # noqa: S608

    async def stream(
        self,
        connection: AnyConnection,
        stream: str,
        first: int,
        last: int,
        max_count: int | None,
        backwards: bool,  # noqa: FBT001  # one call, far from any user
    ) -> StreamPage:
        """Fetch a page of one stream."""
        if max_count == 0 or first > last:
            return StreamPage([], await connection.fetchval(self._head, stream) or 0)
        sql = self._backwards if backwards else self._forwards
        rows = await connection.fetch(sql, stream, first, last, max_count)
        events = [_decode(row) for row in rows] if rows[0][1] is not None else []
        return StreamPage(events, rows[0][0] or 0)

    async def all(
        self,
        connection: AnyConnection,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        """Fetch a page of all streams, no further than where nothing can appear any more."""
        chosen = None if types is None else sorted(types)
        (head, until, *_), *rows = await connection.fetch(
            self._all, after, max_count, chosen, prefix
        )
        events = [_decode(row) for row in rows]
        if len(events) == max_count and events:
            until = events[-1].position
        return AllPage(events, max(after, until), head)


def _decode(row: Record) -> RecordedEvent:
    _, position, stream, version, type_, data, binary, metadata, id_, recorded_at = row
    return decode_event(
        stream,
        version,
        position,
        type_,
        binary if data is None else data,
        metadata,
        # asyncpg has a UUID of its own, a subclass. This is the quickest way to a plain one.
        convert(id_.bytes, UUID),
        recorded_at,
    )
