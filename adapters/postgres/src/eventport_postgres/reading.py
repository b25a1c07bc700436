"""Pages of events: what is asked of the server, and its rows decoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import convert
from msgspec.json import Decoder, encode

from eventport.adapter import (
    MAX_INT,
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    NameQuery,
    Seen,
    StreamPage,
    StreamQuery,
    decode_event,
)
from eventport.events import RecordedEvent
from eventport.results import StreamInfo

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.guards import matches_of
from eventport_postgres.schema import Place, quoted


PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends with the event that makes it this large, so that memory stays bounded."""

SCAN: Final = 100_000
"""How many positions a filtered page looks at, so that a rare filter does not take forever."""

_FIRST_EVENTS: Final = 1_000
"""How many events of each stream are read at most, where many streams are read at once."""


# Of an event's id, its bytes; asyncpg would make a UUID of a class of its own of it.
_COLUMNS: Final = (
    "pg_catalog.uuid_send(e.id), e.position, e.version, e.type, "
    "e.data::pg_catalog.text, e.binary_data, e.metadata::pg_catalog.text, e.recorded_at, "
    "pg_catalog.array_to_json(e.tags)::pg_catalog.text"
)

_decode_tags: Final = Decoder(frozenset[str]).decode


class Reader:
    """The queries on one schema; each takes the connection to ask."""

    def __init__(self, schema: str, place: Place) -> None:
        events = f"{quoted(schema)}.events"
        # The server asks this once for each statement, before it looks for any event.
        here = f"{quoted(schema)}.check_place({place.number})"
        self._head = f"""
            SELECT pg_catalog.max(version) FROM {events}
            WHERE stream OPERATOR(pg_catalog.=) $1 AND {here}
        """  # noqa: S608  # quoted
        self._whole = f"""
            SELECT {_COLUMNS}, NULL, NULL FROM {events} e
            WHERE e.stream OPERATOR(pg_catalog.=) $1 AND {here} ORDER BY e.version
        """  # noqa: S608  # quoted
        # One statement, so that the head and the events are of one moment.
        self._forwards, self._backwards = (
            f"""
            SELECT {_COLUMNS}, NULL, h.head FROM ({self._head}) AS h(head)
            LEFT JOIN LATERAL (
                SELECT e.*, pg_catalog.sum(e.size) OVER (
                    ORDER BY e.version {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before
                FROM {events} e
                WHERE e.stream OPERATOR(pg_catalog.=) $1
                    AND e.version OPERATOR(pg_catalog.>=) $2
                    AND e.version OPERATOR(pg_catalog.<=) $3
                ORDER BY e.version {order} LIMIT $4
            ) AS e ON coalesce(e.before, 0) OPERATOR(pg_catalog.<) {PAGE_BYTES}
            """  # noqa: S608  # quoted
            for order in ("ASC", "DESC")
        )
        self._many = _many_sql(events, here)
        self._heads = f"""
            SELECT w.stream, ({_last_version(events, here)}) AS head
            FROM pg_catalog.unnest($1::pg_catalog.text[]) AS w(stream)
        """  # noqa: S608  # quoted
        self._last = f"SELECT pg_catalog.max(position) FROM {events} WHERE {here}"  # noqa: S608  # quoted
        self._all = f"""
            SELECT {_COLUMNS}, e.stream, e.extent
            FROM {quoted(schema)}.read_all(
                $1, $2, $3, $4, {SCAN}, {PAGE_BYTES}, {place.number}, $5, $6
            ) AS e
        """  # noqa: S608  # quoted

        self._matches = f"""
            SELECT {_COLUMNS}, e.stream, e.extent
            FROM {quoted(schema)}.read_matches(
                $1, $2, $3, $4, $5, {PAGE_BYTES}, {place.number}
            ) AS e
        """  # noqa: S608  # quoted

        self._streams = _streams_sql(events, here)

    async def streams(self, connection: AnyConnection, query: NameQuery) -> list[StreamInfo]:
        """Fetch a page of streams by name."""
        rows = await ask(connection, self._streams, query.first, query.end, query.max_count)
        return [StreamInfo(*row) for row in rows]

    async def stream(self, connection: AnyConnection, query: StreamQuery) -> StreamPage:
        """Fetch a page of one stream."""
        if query.is_empty:
            ((head,),) = await ask(connection, self._head, query.stream)
            return StreamPage([], head or 0)
        if query.is_whole:
            # All of it, as most reads want it: its end is the head.
            rows = await ask(connection, self._whole, query.stream)
            events = _decode(rows, query.stream)
            return StreamPage(events, events[-1].version if events else 0)
        sql = self._backwards if query.backwards else self._forwards
        rows = await ask(connection, sql, query.stream, query.first, query.last, query.max_count)
        head = rows[0]["head"] or 0
        if rows[0]["position"] is None:
            return StreamPage([], head)
        return StreamPage(_decode(rows, query.stream), head)

    async def many(
        self, connection: AnyConnection, streams: Sequence[str]
    ) -> dict[str, StreamPage]:
        """Fetch first pages of streams, as many as fit on one page."""
        rows = await ask(connection, self._many, streams)
        pages: dict[str, StreamPage] = {}
        for name, found in groupby(rows, key=itemgetter("stream")):
            of_stream = list(found)
            head = of_stream[0]["head"] or 0
            pages[name] = StreamPage(_decode(of_stream) if head else [], head)
        return pages

    async def heads(self, connection: AnyConnection, streams: Sequence[str]) -> dict[str, int]:
        """Find where many streams end, in one statement."""
        return {stream: head or 0 for stream, head in await ask(connection, self._heads, streams)}

    async def last_position(self, connection: AnyConnection) -> int:
        """Find the newest event that can be seen, though older ones may still appear."""
        return (await ask_one(connection, self._last))[0] or 0

    async def all(self, connection: AnyConnection, query: AllQuery) -> AllPage:
        """Fetch a page of all streams, up to the stable frontier."""
        types = None if query.types is None else sorted(query.types)
        wanted = query.query
        matches = None if wanted is None or wanted.matches is None else wanted.to_json()
        progress, *rows = await ask(
            connection,
            self._all,
            query.after,
            query.max_count,
            types,
            query.prefix,
            query.stream,
            matches,
        )
        until: int = progress["position"]
        extent: int = progress["extent"]
        events = _decode(rows)
        if events and (len(events) == query.max_count or rows[-1]["extent"] >= PAGE_BYTES):
            until = events[-1].position
        if extent < query.after <= progress["version"]:
            # An append that began before that position was handed out holds readers back for a
            # moment; only if it was never handed out, this is another history.
            extent = query.after
        return AllPage(events, max(query.after, until), extent)

    async def matches(self, connection: AnyConnection, query: MatchQuery) -> MatchPage:
        """Fetch a page of what a query matches, and what its reader has seen."""
        until = MAX_INT if query.until is None else query.until
        matches = encode(matches_of(query.query)).decode()
        first, *rows = await ask(
            connection,
            self._matches,
            matches,
            query.after,
            until,
            query.max_count,
            query.backwards,
        )
        rows.sort(key=itemgetter("extent"))
        fresh: str = first["data"] or "{}"
        positions = frozenset(int(one) for one in fresh[1:-1].split(",") if one)
        more = bool(rows) and rows[-1]["extent"] >= PAGE_BYTES
        return MatchPage(
            _decode(rows), first["position"], Seen(first["extent"], positions), more=more
        )


def _last_version(events: str, here: str) -> str:
    """Make the part of a statement that finds where the stream `w.stream` ends."""
    return f"""
        SELECT pg_catalog.max(e.version) FROM {events} e
        WHERE e.stream OPERATOR(pg_catalog.=) w.stream AND {here}
    """  # noqa: S608  # quoted


def _many_sql(events: str, here: str) -> str:
    """Make the statement that reads streams from their beginning.

    It ends with the event that makes the page large enough. A stream without events has one row;
    one that is not reached any more has none.
    """
    return f"""
        SELECT {_COLUMNS}, e.stream, e.head
        FROM (
            SELECT e.*, w.stream, h.head, pg_catalog.sum(e.size) OVER (
                ORDER BY w.n, e.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS before, w.n
            FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS w(stream, n)
            CROSS JOIN LATERAL ({_last_version(events, here)}) AS h(head)
            LEFT JOIN LATERAL (
                SELECT e.position, e.version, e.type, e.data, e.binary_data, e.metadata, e.id,
                    e.recorded_at, e.tags, e.size
                FROM {events} e
                WHERE e.stream OPERATOR(pg_catalog.=) w.stream ORDER BY e.version
                LIMIT {_FIRST_EVENTS}
            ) AS e ON true
        ) AS e
        WHERE coalesce(e.before, 0) OPERATOR(pg_catalog.<) {PAGE_BYTES}
        ORDER BY e.n, e.version
    """  # noqa: S608  # quoted


def _streams_sql(events: str, here: str) -> str:
    """Make the statement that lists streams by name.

    From each name one step in the index leads to the next one, however many events lie between.
    The bound is checked after the step: the step itself would look for a match until the end.
    """

    def following(comparison: str, name: str) -> str:
        return f"""
            SELECT e.stream FROM {events} e
            WHERE e.stream OPERATOR(pg_catalog.{comparison}) {name} ORDER BY e.stream LIMIT 1
        """  # noqa: S608  # quoted

    bounded = "(n.stream OPERATOR(pg_catalog.<) $2 OR $2 IS NULL)"
    return f"""
        WITH RECURSIVE names(stream) AS (
            SELECT ({following(">=", "$1")}) WHERE {here}
            UNION ALL
            SELECT ({following(">", "n.stream")}) FROM names n
            WHERE n.stream IS NOT NULL AND {bounded}
        )
        SELECT n.stream, h.version, h.position, h.recorded_at
        FROM (
            SELECT n.stream FROM names n WHERE n.stream IS NOT NULL AND {bounded} LIMIT $3
        ) AS n
        CROSS JOIN LATERAL (
            SELECT e.version, e.position, e.recorded_at FROM {events} e
            WHERE e.stream OPERATOR(pg_catalog.=) n.stream ORDER BY e.version DESC LIMIT 1
        ) AS h
        ORDER BY n.stream
    """  # noqa: S608  # quoted


def _decode(rows: Sequence[Record], stream: str | None = None) -> list[RecordedEvent]:
    """Decode rows, of the stream that they name or that is given."""
    # All at once, which is several times as quick as UUID(bytes=...) for each.
    ids = convert([row[0] for row in rows], list[UUID])
    return [
        decode_event(
            stream=stream or named,
            version=version,
            position=position,
            type_=type_,
            data=binary if data is None else data,
            metadata=metadata,
            id_=id_,
            recorded_at=recorded_at,
            tags=() if tags is None else _decode_tags(tags),
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
            tags,
            named,
            _,
        ) in zip(ids, rows, strict=True)
    ]
