"""Pages of events: what is asked of the server, and its rows decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import convert

from eventport.adapter import AllPage, StreamPage, decode_event
from eventport.events import RecordedEvent
from eventport.validation import MAX_INT

from eventport_postgres.schema import AnyConnection, quoted


PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends with the event that makes it this large, so that memory stays bounded."""

SCAN: Final = 100_000
"""How many positions a filtered page looks at, so that a rare filter does not take for ever."""


class Reader:
    """The queries on one schema; each takes the connection to ask."""

    def __init__(self, schema: str) -> None:
        events = f"{quoted(schema)}.events"
        # Of an event's id, its bytes; asyncpg would make a UUID of a class of its own of it.
        columns = (
            "uuid_send(e.id), e.position, e.version, e.type, e.data::text, e.binary_data, "
            "e.metadata::text, e.recorded_at"
        )
        self._head = f"SELECT max(version) FROM {events} WHERE stream = $1"  # noqa: S608  # quoted
        self._whole = f"""
            SELECT {columns}, NULL, NULL FROM {events} e WHERE e.stream = $1 ORDER BY e.version
        """  # noqa: S608  # quoted
        # One statement, so that the head and the events are of one moment.
        self._forwards, self._backwards = (
            f"""
            SELECT {columns}, NULL, h.head FROM ({self._head}) AS h(head)
            LEFT JOIN LATERAL (
                SELECT e.*, sum(e.size) OVER (
                    ORDER BY e.version {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before
                FROM {events} e
                WHERE e.stream = $1 AND e.version >= $2 AND e.version <= $3
                ORDER BY e.version {order} LIMIT $4
            ) AS e ON coalesce(e.before, 0) < {PAGE_BYTES}
            """  # noqa: S608  # quoted
            for order in ("ASC", "DESC")
        )
        self._last = f"SELECT max(position) FROM {events}"  # noqa: S608  # quoted
        self._all = f"""
            SELECT {columns}, e.stream, e.extent
            FROM {quoted(schema)}.read_all($1, $2, $3, $4, {SCAN}, {PAGE_BYTES}) AS e
        """  # noqa: S608  # quoted

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
        if (first, last, max_count, backwards) == (1, MAX_INT, None, False):
            # All of it, as most reads want it: its end is the head.
            rows = await connection.fetch(self._whole, stream)
            events = _decode(rows, stream)
            return StreamPage(events, events[-1].version if events else 0)
        sql = self._backwards if backwards else self._forwards
        rows = await connection.fetch(sql, stream, first, last, max_count)
        head = rows[0]["head"] or 0
        if rows[0]["position"] is None:
            return StreamPage([], head)
        return StreamPage(_decode(rows, stream), head)

    async def last_position(self, connection: AnyConnection) -> int:
        """Find the newest event that can be seen, though older ones may still appear."""
        return await connection.fetchval(self._last) or 0

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
        progress, *rows = await connection.fetch(self._all, after, max_count, chosen, prefix)
        until: int = progress["position"]
        events = _decode(rows)
        if events and (len(events) == max_count or rows[-1]["extent"] >= PAGE_BYTES):
            until = events[-1].position
        return AllPage(events, max(after, until), progress["extent"])


def _decode(rows: Sequence[Record], stream: str | None = None) -> list[RecordedEvent]:
    """Decode rows, of the stream that they name or that is given."""
    # All at once, which is several times as quick as UUID(bytes=...) for each.
    ids = convert([row[0] for row in rows], list[UUID])
    return [
        decode_event(
            stream or named,
            version,
            position,
            type_,
            binary if data is None else data,
            metadata,
            id_,
            recorded_at,
        )
        for id_, (
            _,
            position,
            version,
            type_,
            data,
            binary,
            metadata,
            recorded_at,
            named,
            _,
        ) in zip(ids, rows, strict=True)
    ]
