"""A lane for each stream: its appends that wait become one, and hold up no other stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from eventport.adapter import Commit, Committed, Failed, Outcome
from eventport.errors import StoreUnavailableError
from eventport.group_commit import GroupCommit

from eventport_eventstoredb.commits import Committer


_JOINED_BYTES: Final = 900_000
"""Appends are joined up to this size: less than the smallest that servers take by default."""


@dataclass
class _Lane:
    group: GroupCommit
    users: int = 0


class Lanes:
    """Writes the commits of each stream one after the other, and those of others meanwhile.

    Args:
        committer: Writes commits.
        fully: Whether each event's position and time are needed.
    """

    def __init__(self, committer: Committer, fully: Callable[[], bool]) -> None:
        self._committer = committer
        self._fully = fully
        self._lanes: dict[object, _Lane] = {}

    async def submit(self, commit: Commit) -> Outcome:
        """Commit, and return the outcome.

        A caller that is cancelled before its commit is on the wire leaves nothing behind. Later it
        waits for the outcome before the cancellation goes on.
        """
        streams = {write.stream for write in commit.writes}
        # A commit over several streams waits for none of their lanes: the server decides.
        key: object = next(iter(streams)) if len(streams) == 1 else object()
        if (lane := self._lanes.get(key)) is None:
            lane = self._lanes[key] = _Lane(GroupCommit(self._write))
        lane.users += 1
        try:
            return await lane.group.submit(commit)
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[key]

    async def drain(self) -> None:
        """Wait until nothing is pending."""
        while self._lanes:
            for lane in list(self._lanes.values()):
                await lane.group.drain()

    async def _write(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for run in _runs(commits):
            outcomes += await self._write_run(run)
        return outcomes

    async def _write_run(self, run: Sequence[Commit]) -> Sequence[Outcome]:
        if len(run) > 1:
            joined = Commit([write for commit in run for write in commit.writes])
            # The answer holds the position of the last one only.
            outcome = await self._committer.commit(joined, fully=True)
            if isinstance(outcome, Committed):
                return _split(run, outcome)
            if isinstance(outcome, Failed) and isinstance(outcome.error, StoreUnavailableError):
                return [outcome] * len(run)
            # Nothing of it was written: each gets an answer of its own.
        return [await self._committer.commit(commit, fully=self._fully()) for commit in run]


def _runs(commits: Sequence[Commit]) -> list[list[Commit]]:
    """Divide the commits of a lane into those that are written as one append.

    Only appends with `any` can be joined: what is expected of others depends on their answers.
    """
    runs: list[list[Commit]] = []
    size, ids = 0, set[UUID]()
    joinable = False
    for commit in commits:
        events = [event for write in commit.writes for event in write.events]
        own = sum(len(event.data) + len(event.metadata) for event in events)
        own_ids = {event.id for event in events}
        is_any = commit.writes[0].expected == "any"
        if joinable and is_any and size + own <= _JOINED_BYTES and ids.isdisjoint(own_ids):
            runs[-1].append(commit)
            size, ids = size + own, ids | own_ids
        else:
            runs.append([commit])
            size, ids, joinable = own, own_ids, is_any
    return runs


def _split(run: Sequence[Commit], outcome: Committed) -> list[Outcome]:
    outcomes: list[Outcome] = []
    first = 0
    for commit in run:
        last = first + len(commit.writes)
        writes = outcome.writes[first:last]
        outcomes.append(Committed(writes, outcome.recorded_at, outcome.deduplicated))
        first = last
    return outcomes
