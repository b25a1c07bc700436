"""An error of one commit of a batch reaches its own caller, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anyio import create_task_group

from eventport import NewEvent
from eventport.adapter import Commit, Failed, Outcome, Store
from eventport.errors import PayloadTooLargeError

from eventport_memory.engine import MemoryEngine


class Choosy(MemoryEngine):
    """Writes each commit by itself, and fails those of one stream."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        return [
            Failed(PayloadTooLargeError("too large"))
            if commit.writes[0].stream == "large"
            else (await super(Choosy, self).commit([commit]))[0]
            for commit in batch
        ]


async def test_a_failed_commit_takes_nobody_with_it() -> None:
    store = Store(Choosy())

    async def fail() -> None:
        with pytest.raises(PayloadTooLargeError, match="too large"):
            await store.append("large", [NewEvent("A", 1)])

    async with create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(store.append, f"s{number}", [NewEvent("A", 1)])
            tasks.start_soon(fail)
    events = (await store.read_all()).events
    assert sorted(event.stream for event in events) == [f"s{number}" for number in range(5)]


async def test_commits_are_detailed_for_hooks_only() -> None:
    asked: list[bool] = []

    class Asked(MemoryEngine):
        async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
            asked.extend(commit.detailed for commit in batch)
            return await super().commit(batch)

    store = Store(Asked())
    await store.append("a", [NewEvent("A", 1)])

    @store.after_commit
    async def hook(_: object) -> None:
        """Do nothing."""

    await store.append("a", [NewEvent("A", 1)])
    assert asked == [False, True]
