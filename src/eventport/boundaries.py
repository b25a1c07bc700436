"""Consistency boundaries: which events a decision depends on, and the error if one was missed."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final, Self, cast

import msgspec

from msgspec import Struct
from msgspec.structs import force_setattr

from eventport.errors import ConcurrencyError, InvalidArgumentError, InvalidArgumentTypeError
from eventport.events import RecordedEvent
from eventport.expectations import ANY
from eventport.validation import check_tags, check_types, show


MAX_MATCHES: Final = 100
"""How many matches a query has at most."""


class Match(Struct, frozen=True):
    """Events of one of these types that have all of these tags.

    Raises:
        InvalidArgumentError: it names neither types nor tags, or a name breaks the rules.
    """

    types: AbstractSet[str] = frozenset()
    """The event has one of these types; empty for any type."""
    tags: AbstractSet[str] = frozenset()
    """The event has all of these tags; empty for any tags."""

    def __post_init__(self) -> None:
        """Check the names, and keep them from being changed."""
        types, tags = check_types(self.types or None), check_tags(self.tags)
        if not types and not tags:
            message = "a Match needs types or tags; Query.all() matches every event"
            raise InvalidArgumentError(message)
        force_setattr(self, "types", types or frozenset())
        force_setattr(self, "tags", tags)

    def as_dict(self) -> dict[str, list[str]]:
        """Return the names that are given, in order, as they stand in JSON."""
        named = {"types": sorted(self.types), "tags": sorted(self.tags)}
        return {key: names for key, names in named.items() if names}

    def matches(self, type_: str, tags: AbstractSet[str]) -> bool:
        """Return whether an event of this type with these tags is meant."""
        return (not self.types or type_ in self.types) and self.tags <= tags


class Query(Struct, frozen=True):
    """Events that meet at least one match. Make one with `Query.of` or `Query.all`."""

    matches: tuple[Match, ...] | None
    """An event meets one of them; None for all events."""

    @classmethod
    def of(cls, *matches: Match) -> Self:
        """Return a query for events that meet at least one of these.

        Raises:
            InvalidArgumentError: there is none.
        """
        for match in matches:
            if not isinstance(cast("object", match), Match):
                message = f"Query.of takes Match(...), not {show(match)}"
                raise InvalidArgumentTypeError(message)
        if not matches:
            message = "Query.of needs at least one Match; Query.all() matches every event"
            raise InvalidArgumentError(message)
        unique = tuple(dict.fromkeys(matches))
        if len(unique) > MAX_MATCHES:
            message = f"{len(unique)} matches are too many for a query: the limit is {MAX_MATCHES}"
            raise InvalidArgumentError(message)
        return cls(unique)

    @classmethod
    def all(cls) -> Self:
        """Return the query for all events."""
        return cls(None)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the query that `to_json` has written.

        Raises:
            InvalidArgumentError: it is not a query.
        """
        try:
            found: Any = _decode(text)
        except (msgspec.MsgspecError, ValueError, TypeError) as exc:
            message = (
                'a query in JSON is "all", or a list such as [{"types": ["Enrolled"], "tags": '
                f'["course:1"]}}]: {exc}'
            )
            raise InvalidArgumentError(message) from exc
        return cls.all() if found == "all" else cls.of(*found)

    def to_json(self) -> str:
        """Return the query as JSON: ``"all"``, or a list of objects with types and tags."""
        if self.matches is None:
            return '"all"'
        return msgspec.json.encode([match.as_dict() for match in self.matches]).decode()

    def covers(self, type_: str, tags: AbstractSet[str]) -> bool:
        """Return whether an event of this type with these tags is meant."""
        return self.matches is None or any(one.matches(type_, tags) for one in self.matches)


class BoundaryError(ConcurrencyError):
    """An event that a decision depends on is in the store, and was not seen; nothing was written.

    Query again, decide again, and append with the new token. Its text names the event's place
    and type, and no tag: tags are data.
    """

    def __init__(self, query: Query, event: RecordedEvent) -> None:
        super().__init__(event.stream, ANY, event.version)
        self.args = (query, event)
        self.query = query
        """The query that was the condition."""
        self.event = event
        """The first event that matches it and was not seen."""

    def __str__(self) -> str:
        event = self.event
        return (
            f"event {event.version} of stream {event.stream!r}, of type {event.type!r} at position "
            f"{event.position}, matches the query of the condition, and was not seen"
        )


class _Match(Struct, forbid_unknown_fields=True):
    types: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


_decoder: Final = msgspec.json.Decoder(list[_Match] | str)


def _decode(text: str | bytes) -> tuple[Match, ...] | str:
    found = _decoder.decode(text)
    if isinstance(found, str):
        if found != "all":
            message = f"{show(found)} is not a query"
            raise InvalidArgumentError(message)
        return found
    return tuple(Match(one.types, one.tags) for one in found)
