"""What becomes of a commit, for engines that decide in Python while nobody else can write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from eventport._engine.commits import (
    Commit,
    Committed,
    Conflict,
    Guard,
    QueryConflict,
    QueryGuard,
    Seen,
    StreamGuard,
    StreamWrite,
    Written,
)
from eventport.boundaries import Query
from eventport.expectations import exact_version, holds


Place: TypeAlias = tuple[str, int, UUID]
"""Stream, version and id of an event."""

Unseen: TypeAlias = Callable[[Query, Seen], Place | None]
"""Gives the first event that matches a query and was not seen, if there is any."""

StoredIds: TypeAlias = Sequence[tuple[UUID, int, datetime]]
"""Id, position and time of events of one stream, by version."""


def plan(
    commit: Commit,
    head: Callable[[str], int],
    stored: Callable[[str, int, int], StoredIds],
    unseen: Unseen | None = None,
) -> list[int] | Committed | Conflict | QueryConflict:
    """Decide what becomes of a commit.

    Args:
        commit: What is to be written.
        head: Gives a stream's version.
        stored: Gives (id, position, recorded_at) of a stream's events, from a version to a
            version, both inclusive.
        unseen: Gives the first event that breaks a query's guard; only engines without
            `Capability.CONDITIONS` leave it out.

    Returns:
        The version of the first event of each write, if the commit is to be written; `Committed`
        if these very events are there already; otherwise the conflict.
    """
    heads: dict[str, int] = {}
    firsts: list[int] = []
    for write in commit.writes:
        actual = heads.get(write.stream)
        if actual is None:
            actual = head(write.stream)
        if not holds(write.expected, actual):
            return _earlier_try(commit, stored) or Conflict(write.stream, write.expected, actual)
        firsts.append(actual + 1)
        heads[write.stream] = actual + len(write.events)
    for guard in commit.guards:
        if isinstance(guard, QueryGuard):
            if unseen is None:
                raise NotImplementedError("this engine cannot check the guards of queries")
            if place := unseen(guard.query, guard.seen):
                conflict = QueryConflict(guard.query, place[0], place[1])
                return _earlier_try(commit, stored, place) or conflict
        elif not holds(guard.expected, actual := head(guard.stream)):
            return Conflict(guard.stream, guard.expected, actual)
    return firsts


def _earlier_try(
    commit: Commit, stored: Callable[[str, int, int], StoredIds], place: Place | None = None
) -> Committed | None:
    """Find a commit in the store that an earlier try has written, by the ids of its events.

    Args:
        commit: The commit.
        stored: See `plan`.
        place: The first event that a reader has not seen. If an earlier try of a conditional
            append was written, the first one that it had not seen is one of its own.
    """
    written: list[Written] = []
    for write in commit.writes:
        before = exact_version(write.expected)
        if before is None and place is not None:
            before = version_before(write, place)
        if before is None:
            return None
        last = before + len(write.events)
        found = stored(write.stream, before + 1, last)
        if [id_ for id_, _, _ in found] != [event.id for event in write.events]:
            return None
        positions, times = [place for _, place, _ in found], [at for _, _, at in found]
        written.append(Written(last, positions, before == 0, times))
    return Committed(written, deduplicated=True)


def version_before(write: StreamWrite, place: Place) -> int | None:
    """Return the version before a write, if an event that is stored is one of its own."""
    stream, version, id_ = place
    ids = [event.id for event in write.events]
    return version - ids.index(id_) - 1 if stream == write.stream and id_ in ids else None


class PlannedWrites:
    """What commits will have written, to find out whether they could break a guard."""

    def __init__(self) -> None:
        self._streams: set[str] = set()
        self._events: list[tuple[str, frozenset[str]]] = []
        self._by_tag: defaultdict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)

    def add(self, commit: Commit) -> None:
        """Add what a commit writes."""
        for write in commit.writes:
            self._streams.add(write.stream)
            for event in write.events:
                self._events.append((event.type, event.tags))
                for tag in event.tags:
                    self._by_tag[tag].append((event.type, event.tags))

    def could_break(self, guard: Guard) -> bool:
        """Return whether a guard could not hold after them."""
        if isinstance(guard, StreamGuard):
            return guard.stream in self._streams
        query = guard.query
        return any(query.covers(type_, tags) for type_, tags in self._candidates(query))

    def _candidates(self, query: Query) -> Iterable[tuple[str, frozenset[str]]]:
        if query.matches is None or not all(match.tags for match in query.matches):
            return self._events
        tags = {min(match.tags) for match in query.matches}
        return [event for tag in tags for event in self._by_tag.get(tag, ())]
