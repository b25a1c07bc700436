"""An error of one commit of a batch reaches its own caller, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anyio import create_task_group

from eventport import NewEvent
from eventport.adapter import Commit, Failed, Outcome
from eventport.errors import PayloadTooLargeError

from eventport_memory import MemoryEventStore


class Choosy(MemoryEventStore):
    """Writes each commit by itself, and fails those of one stream."""

    async def _dispatch(self, commit: Commit) -> Outcome:
        return await self._group.submit(commit)

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return [
            Failed(PayloadTooLargeError("too large"))
            if commit.writes[0].stream == "large"
            else (await super(Choosy, self)._commit([commit]))[0]
            for commit in commits
        ]


async def test_a_failed_commit_takes_nobody_with_it() -> None:
    store = Choosy()

    async def fail() -> None:
        with pytest.raises(PayloadTooLargeError, match="too large"):
            await store.append("large", [NewEvent("A", 1)])

    async with create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(store.append, f"s{number}", [NewEvent("A", 1)])
            tasks.start_soon(fail)
    events = (await store.read_all()).events
    assert sorted(event.stream for event in events) == [f"s{number}" for number in range(5)]


async def test_hooks_make_themselves_known_to_adapters() -> None:
    store = MemoryEventStore()
    assert not store.has_hooks

    @store.after_commit
    async def hook(_: object) -> None:
        """Do nothing."""

    assert store.has_hooks
