"""Finding the events that a query matches, by their tags where it names any."""

from __future__ import annotations

import json
import sqlite3

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from eventport import Match, Query
from eventport.adapter import Place, Seen


_HAS_TAG: Final = """
    EXISTS (SELECT 1 FROM eventport_tags t WHERE t.tag = ? AND t.position = %s.position)
"""
_HAS_TYPE: Final = "%s.type IN (SELECT value FROM json_each(?))"
_PLACE: Final = "SELECT stream, version, id FROM eventport_events WHERE position = ?"


def condition(query: Query) -> tuple[str, list[Any]]:
    """Return the condition that a row `e` of the events matches a query, and its values."""
    if query.matches is None:
        return "1", []
    parts = [_conditions(match.types, match.tags, "e", "e") for match in query.matches]
    return (
        "(" + " OR ".join(f"({sql})" for sql, _ in parts) + ")",
        [value for _, values in parts for value in values],
    )


def positions(
    query: Query, after: int, until: int, count: int, *, backwards: bool = False
) -> tuple[str, list[Any]]:
    """Return the statement that finds the first positions of a query in a range, and its values.

    It looks only at events with the tags that are named. SQLite merges what the parts find, each
    in order, and stops when there are enough.
    """
    if query.matches is None:
        parts = [
            (
                "SELECT position AS place FROM eventport_events WHERE position BETWEEN ? AND ?",
                [after + 1, until],
            )
        ]
    else:
        parts = [_part(match, after, until) for match in query.matches]
    order = "DESC" if backwards else "ASC"
    sql = " UNION ".join(part for part, _ in parts) + f" ORDER BY place {order} LIMIT ?"
    return sql, [*(value for _, values in parts for value in values), count]


def first_unseen(db: sqlite3.Connection, query: Query, seen: Seen) -> Place | None:
    """Return the first event that matches a query and was not seen, if there is any."""
    sql, values = positions(query, seen.floor, 2**63 - 1, len(seen.positions) + 1)
    for (position,) in db.execute(sql, values):
        if not seen.covers(position):
            stream, version, id_ = db.execute(_PLACE, (position,)).fetchone()
            return stream, version, UUID(bytes=id_)
    return None


def _part(match: Match, after: int, until: int) -> tuple[str, list[Any]]:
    if not match.tags:
        rest, values = _conditions(match.types, (), "e", "e")
        sql = f"""
            SELECT e.position AS place FROM eventport_events e
            WHERE e.position BETWEEN ? AND ? AND {rest}
        """  # noqa: S608  # no value goes into the text
        return sql, [after + 1, until, *values]
    # Tags with an id in them are long and rare.
    first, *others = sorted(match.tags, key=lambda tag: (-len(tag), tag))
    rest, values = _conditions(match.types, others, "e", "a")
    join = "JOIN eventport_events e ON e.position = a.position" if match.types else ""
    sql = f"""
        SELECT a.position AS place FROM eventport_tags a {join}
        WHERE a.tag = ? AND a.position BETWEEN ? AND ? AND {rest}
    """  # noqa: S608  # as above
    return sql, [first, after + 1, until, *values]


def _conditions(
    types: Iterable[str], tags: Iterable[str], typed: str, tagged: str
) -> tuple[str, list[Any]]:
    sql, values = ["1"], list[Any]()
    if names := sorted(types):
        sql.append(_HAS_TYPE % typed)
        values.append(json.dumps(names))
    for tag in sorted(tags):
        sql.append(_HAS_TAG % tagged)
        values.append(tag)
    return " AND ".join(sql), values
