"""What becomes of a commit, for engines that decide in Python while nobody else can write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from eventport._engine.commits import Commit, Committed, Conflict, Written
from eventport.expectations import exact_version, holds


StoredIds: TypeAlias = Sequence[tuple[UUID, int, datetime]]
"""Id, position and time of events of one stream, by version."""


def plan(
    commit: Commit,
    head: Callable[[str], int],
    stored: Callable[[str, int, int], StoredIds],
) -> list[int] | Committed | Conflict:
    """Decide what becomes of a commit.

    Args:
        commit: What is to be written.
        head: Gives a stream's version.
        stored: Gives (id, position, recorded_at) of a stream's events, from a version to a
            version, both inclusive.

    Returns:
        The version of the first event of each write, if the commit is to be written; `Committed`
        if these very events are there already; otherwise the `Conflict`.
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
        if not holds(guard.expected, actual := head(guard.stream)):
            return Conflict(guard.stream, guard.expected, actual)
    return firsts


def _earlier_try(commit: Commit, stored: Callable[[str, int, int], StoredIds]) -> Committed | None:
    """Find a commit in the store that an earlier try has written, by the ids of its events."""
    written: list[Written] = []
    for write in commit.writes:
        before = exact_version(write.expected)
        if before is None:
            return None
        last = before + len(write.events)
        found = stored(write.stream, before + 1, last)
        if [id_ for id_, _, _ in found] != [event.id for event in write.events]:
            return None
        positions, times = [place for _, place, _ in found], [at for _, _, at in found]
        written.append(Written(last, positions, before == 0, times))
    return Committed(written, deduplicated=True)
