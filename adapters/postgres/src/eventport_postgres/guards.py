"""Commits with tags or guards: what they lock, what the server checks, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from eventport import Match, Query
from eventport.adapter import (
    Commit,
    Conflict,
    Guard,
    Outcome,
    PlannedWrites,
    QueryConflict,
    StreamGuard,
)
from eventport.expectations import Expectation


STRIPES: Final = 1_023
"""How many locks there are for all tags, so that the locks of a batch are few."""

EVERYTHING: Final = 0
"""The lock that each append takes, shared: it keeps all away from a guard without tags."""

MOST_LOCKS: Final = 1_000
"""A batch to more streams takes `EVERYTHING` alone; the server's function does the same."""

_KEY: Final = "\x01"
"""Begins the name of a lock that is not a stream's; no stream has a control character."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode


def independent_parts(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Split a batch, in order, so that no commit has a guard that one before it could break."""
    if not any(commit.guards for commit in commits):
        return [list(commits)]
    parts: list[list[Commit]] = [[]]
    written = PlannedWrites()
    for commit in commits:
        if any(written.could_break(guard) for guard in commit.guards):
            parts.append([])
            written = PlannedWrites()
        parts[-1].append(commit)
        written.add(commit)
    return parts


def locks_of(commit: Commit) -> dict[int, bool]:
    """Return the locks of a commit beside those of streams, and whether each is exclusive."""
    locks = {EVERYTHING: len(streams_of(commit)) > MOST_LOCKS}
    for write in commit.writes:
        for event in write.events:
            for tag in event.tags:
                locks.setdefault(_stripe(tag), False)
    for guard in commit.guards:
        if isinstance(guard, StreamGuard):
            continue
        matches = guard.query.matches
        if matches is None or not all(match.tags for match in matches):
            locks[EVERYTHING] = True
        else:
            locks.update((_stripe(_main_tag(match)), True) for match in matches)
    return locks


def count_locks(commit: Commit) -> int:
    """Return how many locks the server's functions take for a commit."""
    streams = len(streams_of(commit))
    return len(locks_of(commit)) + (streams if streams <= MOST_LOCKS else 0)


def locks_of_all(commits: Sequence[Commit]) -> tuple[list[int], list[bool]]:
    """Return the locks of a batch, in order, and whether each is exclusive."""
    locks: dict[int, bool] = {}
    for commit in commits:
        for key, exclusive in locks_of(commit).items():
            locks[key] = locks.get(key, False) or exclusive
    keys = sorted(locks)
    return keys, [locks[key] for key in keys]


def streams_of(commit: Commit) -> set[str]:
    """Return the streams that a commit locks."""
    guarded = {guard.stream for guard in commit.guards if isinstance(guard, StreamGuard)}
    return guarded.union(write.stream for write in commit.writes)


def resources_of(commit: Commit) -> dict[str, bool]:
    """Return the names of all that a commit locks, and whether exclusively."""
    locks = dict.fromkeys(streams_of(commit), False)
    locks.update((write.stream, True) for write in commit.writes)
    return locks | {f"{_KEY}{key}": exclusive for key, exclusive in locks_of(commit).items()}


def is_stream(resource: str) -> bool:
    """Return whether the name of what is locked is that of a stream."""
    return not resource.startswith(_KEY)


def has_tags_or_guards(commits: Sequence[Commit]) -> bool:
    """Return whether a batch takes more than the server's plain function."""
    return any(
        commit.guards or any(event.tags for write in commit.writes for event in write.events)
        for commit in commits
    )


def guards_json(commits: Sequence[Commit], encode: Any) -> str | None:
    """Return the guards of a batch as the server's function takes them; None if there are none.

    Args:
        commits: The batch.
        encode: Turns an expectation into a number.
    """
    rows = [
        {"commit": number, "n": index, **_guard_row(guard, encode)}
        for number, commit in enumerate(commits, 1)
        for index, guard in enumerate(commit.guards)
    ]
    return _encode(rows).decode() if rows else None


def matches_of(query: Query) -> list[dict[str, list[str]]]:
    """Return a query as the server's functions take it: an empty object matches all."""
    if query.matches is None:
        return [{}]
    found: list[dict[str, list[str]]] = []
    for match in query.matches:
        row = match.as_dict()
        if match.tags:
            main = _main_tag(match)
            row["tags"] = [main, *sorted(match.tags - {main})]
        found.append(row)
    return found


def broken_guards(text: str | None, commits: Sequence[Commit]) -> dict[int, Outcome]:
    """Read the server's answer: the conflict of each commit whose guards do not hold."""
    if text is None:
        return {}
    found: dict[int, Outcome] = {}
    for row in _decode(text):
        index: int = row["commit"] - 1
        number: int = row["n"]
        guard = commits[index].guards[number]
        if isinstance(guard, StreamGuard):
            found[index] = Conflict(guard.stream, guard.expected, row["version"])
        else:
            found[index] = QueryConflict(guard.query, row["stream"], row["version"])
    return found


def _guard_row(guard: Guard, encode: Any) -> dict[str, Any]:
    if isinstance(guard, StreamGuard):
        expected: Expectation = guard.expected
        return {"stream": guard.stream, "expected": encode(expected)}
    seen = guard.seen
    return {
        "matches": matches_of(guard.query),
        "floor": seen.floor,
        "seen": sorted(seen.positions),
    }


def _main_tag(match: Match) -> str:
    """Return the tag by which events are searched for: those with an id in them are long."""
    return max(match.tags, key=lambda tag: (len(tag), tag))


def _stripe(tag: str) -> int:
    return 1 + crc32(tag.encode()) % STRIPES
