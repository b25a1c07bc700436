"""A lane for each stream: its appends that wait become one, and hold up no other stream."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from eventport.adapter import Commit, Committed, Failed, GroupCommit, Outcome, run_shielded
from eventport.errors import StoreUnavailableError

from eventport_eventstoredb.commits import Committer


_JOINED_BYTES: Final = 900_000
"""Appends are joined up to this size: less than the smallest that servers take by default."""


class Lanes:
    """Writes the commits of each stream one after the other, and those of others meanwhile.

    Args:
        committer: Writes commits.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._lanes: dict[object, _Lane] = {}

    async def submit(self, commit: Commit) -> Outcome:
        """Commit, and return the outcome.

        A caller that is cancelled before its commit is on the wire leaves nothing behind. Later it
        waits for the outcome before the cancellation goes on.
        """
        async with self._lane(commit) as lane:
            return await lane.group.submit(commit)

    async def find(self, commit: Commit) -> Committed | None:
        """Find out what became of a commit whose answer was lost.

        It takes its turn with the commits that are written: all of them move the stream's head.
        """
        async with self._lane(commit) as lane, lane.turn:
            return await run_shielded(self._committer.find, commit)

    @asynccontextmanager
    async def _lane(self, commit: Commit) -> AsyncGenerator[_Lane]:
        streams = {write.stream for write in commit.writes}
        # A commit over several streams waits for none of their lanes: the server decides.
        key: object = next(iter(streams)) if len(streams) == 1 else object()
        if (lane := self._lanes.get(key)) is None:
            lane = self._lanes[key] = _Lane(self._committer)
        lane.users += 1
        try:
            yield lane
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[key]


class _Lane:
    """The commits of one stream."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self.group = GroupCommit(self._write)
        self.turn = asyncio.Lock()
        self.users = 0

    async def _write(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        async with self.turn:
            for run in _runs(commits):
                outcomes += await self._write_run(run)
        return outcomes

    async def _write_run(self, run: Sequence[Commit]) -> Sequence[Outcome]:
        if len(run) > 1:
            # The answer holds the position of the last one only, so all of them are read back.
            joined = Commit([write for commit in run for write in commit.writes], detailed=True)
            outcome = await self._committer.commit(joined)
            if isinstance(outcome, Committed):
                return _split(run, outcome)
            if isinstance(outcome, Failed) and isinstance(outcome.error, StoreUnavailableError):
                return [outcome] * len(run)
            # Nothing of it was written: each gets an answer of its own.
        return [await self._committer.commit(commit) for commit in run]


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
        is_any = commit.writes[0].expected == "any" and not commit.guards
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
        outcomes.append(Committed(writes, outcome.deduplicated))
        first = last
    return outcomes
