"""Which documents have events that a query matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventport import Match, Query, RecordedEvent

from eventport_mongodb.documents import decode_document
from eventport_mongodb.driver import Document


def condition(query: Query) -> Mapping[str, Any]:
    """Return the condition that a document has an event that a query matches."""
    if query.matches is None:
        return {}
    return {"$or": [{"events": {"$elemMatch": _of(match)}} for match in query.matches]}


def matching(document: Document, query: Query, after: int, until: int) -> list[RecordedEvent]:
    """Return the events of a document in a range of positions that a query matches."""
    return [
        event
        for event in decode_document(document)
        if after < event.position <= until and query.covers(event.type, event.tags)
    ]


def _of(match: Match) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if match.tags:
        # The index is searched for the first one: tags with an id in them are long and rare.
        wanted["tags"] = {"$all": sorted(match.tags, key=lambda tag: (-len(tag), tag))}
    if match.types:
        wanted["type"] = {"$in": sorted(match.types)}
    return wanted
