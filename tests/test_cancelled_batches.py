"""Group commit: a cancellation, or a loop that closes, strands nobody and tears no batch."""

from __future__ import annotations

import asyncio
import random

from collections.abc import Sequence

import pytest

from anyio import (
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint
from tests.committing import Caller, Engine, commit, drained, start
from tests.tasks import task_group

from eventport._engine.commits import (
    Commit,
    Committed,
    Outcome,
    Written,
)
from eventport._engine.group_commit import (
    GroupCommit,
)
from eventport.errors import PayloadTooLargeError, StoreUnavailableError


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
@pytest.mark.parametrize("which", ["first", "later"])
async def test_a_caller_cancelled_inside_a_batch_waits_for_its_end(
    native: bool, which: str, anyio_backend: str
) -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        await start(tasks, group, "a")
        first, later = Caller(group, "first"), Caller(group, "later")
        cancelled, other = (first, later) if which == "first" else (later, first)
        for caller in (first, later):
            if caller is cancelled and native and anyio_backend == "asyncio":
                caller.start_natively()
            else:
                tasks.start_soon(caller.run)
            await wait_all_tasks_blocked()
        await engine.answer()
        assert engine.batches == [["a"], ["first", "later"]]
        [waiter] = await start(tasks, group, "waiter")

        for _ in range(2):
            cancelled.cancel()
            await wait_all_tasks_blocked()
            assert not cancelled.ended
        await engine.answer()
        assert cancelled.ended
        assert cancelled.outcome is None
        assert other.outcome
        assert engine.batches[2:] == [["waiter"]]
        await engine.answer()
        assert waiter.outcome
    assert engine.written == ["a", "first", "later", "waiter"]


async def test_a_cancelled_lone_caller_waits_for_its_commit_too() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        [a] = await start(tasks, group, "a")
        a.cancel()
        await wait_all_tasks_blocked()
        assert not a.ended
        await engine.answer()
        assert a.ended
        assert a.outcome is None
    assert engine.written == ["a"]


async def test_only_a_batch_that_nobody_waits_for_any_more_is_given_up() -> None:
    engine = Engine(held=True)
    given_up: list[list[str]] = []
    group = GroupCommit(engine, lambda: given_up.append(engine.batches[-1]))
    async with task_group() as tasks:
        [alone] = await start(tasks, group, "alone")
        first, second, third = await start(tasks, group, "first", "second", "third")
        third.cancel()  # it is still in the queue
        await wait_all_tasks_blocked()
        assert given_up == []
        alone.cancel()
        await wait_all_tasks_blocked()
        assert given_up == [["alone"]]
        await engine.answer()
        assert engine.batches == [["alone"], ["first", "second"]]
        first.cancel()
        await wait_all_tasks_blocked()
        await engine.answer()
        assert second.outcome
    assert given_up == [["alone"]]


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
async def test_a_caller_cancelled_in_the_queue_leaves_nothing(
    native: bool, anyio_backend: str
) -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        await start(tasks, group, "a")
        b = Caller(group, "b")
        if native and anyio_backend == "asyncio":
            b.start_natively()
        else:
            tasks.start_soon(b.run)
        await wait_all_tasks_blocked()
        [c] = await start(tasks, group, "c")
        b.cancel()
        await wait_all_tasks_blocked()
        assert b.ended
        await engine.answer()
        assert engine.batches == [["a"], ["c"]]
        await engine.answer()
    assert c.outcome
    assert engine.written == ["a", "c"]
    await drained(group)


async def test_when_the_whole_queue_is_cancelled_the_next_caller_is_served() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        _, b, c = await start(tasks, group, "a", "b", "c")
        b.cancel()
        c.cancel()
        await wait_all_tasks_blocked()
        await engine.answer()
        await drained(group)
        [d] = await start(tasks, group, "d")
        await engine.answer()
    assert d.outcome
    assert engine.written == ["a", "d"]


async def test_a_caller_cancelled_just_before_its_batch_is_taken_is_written_or_not() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        _, b, c = await start(tasks, group, "a", "b", "c")
        # Either `b` learns of it before the next batch is taken, or it has to wait for its end.
        engine.before_return = b.cancel
        await engine.answer()
        engine.before_return = lambda: None
        ended_before = b.ended
        await engine.answer()
        assert b.ended
        assert b.outcome is None
    assert c.outcome
    taken = ["c"] if ended_before else ["b", "c"]
    assert engine.batches == [["a"], taken]
    assert engine.written == ["a", *taken]
    await drained(group)


class Chaos:
    """An engine that fails at random, and workers whose commits are cancelled at random."""

    def __init__(self, seed: int, *, native: bool) -> None:
        self.chance = random.Random(seed)
        self.native = native
        self.written: list[str] = []
        self.doubtful: set[str] = set()
        self.callers: list[Caller] = []
        self.group = GroupCommit(self.engine)

    async def engine(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        names = [commit.writes[0].stream for commit in commits]
        for _ in range(self.chance.randrange(4)):
            await checkpoint()
        if any(name.startswith("spoiler") for name in names):
            raise PayloadTooLargeError("spoiled")
        if lost := self.chance.random() < 0.03:
            self.doubtful.update(names)
        if not lost or self.chance.random() < 0.5:
            self.written.extend(names)
        if lost:
            raise StoreUnavailableError("lost")
        return [Committed([Written(1, [1], created=True)])] * len(names)

    async def come_and_go(self, worker: int) -> None:
        for number in range(30):
            kind = "spoiler" if self.chance.random() < 0.05 else "good"
            caller = Caller(self.group, f"{kind}-{worker}-{number}")
            self.callers.append(caller)
            async with task_group() as tasks:
                if self.native and self.chance.random() < 0.5:
                    caller.start_natively()
                else:
                    tasks.start_soon(caller.run)
                if self.chance.random() < 0.4:
                    for _ in range(self.chance.randrange(8)):
                        await checkpoint()
                    caller.cancel()
                if caller.task:
                    await asyncio.wait([caller.task])

    def check(self, caller: Caller) -> None:
        name = caller.commit.writes[0].stream
        if caller.outcome:
            assert name in self.written
        elif caller.error:
            assert isinstance(caller.error, (PayloadTooLargeError, StoreUnavailableError))
            assert name.startswith("spoiler") or name in self.doubtful


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_cancelled_when_every_commit_ends_and_none_is_doubled(
    seed: int, anyio_backend: str
) -> None:
    chaos = Chaos(seed, native=anyio_backend == "asyncio")
    async with task_group() as tasks:
        for worker in range(15):
            tasks.start_soon(chaos.come_and_go, worker)
    await drained(chaos.group)
    assert len(chaos.callers) == 450
    assert len(chaos.written) == len(set(chaos.written))
    assert not any(name.startswith("spoiler") for name in chaos.written)
    for caller in chaos.callers:
        chaos.check(caller)
    assert sum(caller.outcome is not None for caller in chaos.callers) > 100
    assert sum(not caller.outcome and not caller.error for caller in chaos.callers) > 20


def test_a_batch_cut_off_by_a_closing_loop_strands_nobody() -> None:
    engine = Engine(held=True)
    callers: list[Caller] = []

    async def main() -> None:
        group = GroupCommit(engine)
        for name in ("a", "b", "c"):
            callers.append(Caller(group, name))
            callers[-1].start_natively()
        await wait_all_tasks_blocked()

    asyncio.run(main())
    assert [caller.ended for caller in callers] == [True, True, True]
    assert engine.batches == [["a", "b", "c"]]


def test_members_of_a_batch_that_was_cut_off_learn_that_nothing_is_known() -> None:
    engine = Engine(held=True)
    callers: list[Caller] = []

    async def main() -> None:
        group = GroupCommit(engine)
        before = asyncio.all_tasks()
        callers.extend(Caller(group, name) for name in ("a", "b", "c", "d"))
        for caller in callers:
            caller.start_natively()
        await wait_all_tasks_blocked()
        assert engine.batches == [["a", "b", "c", "d"]]
        for task in asyncio.all_tasks() - before - {caller.task for caller in callers}:
            task.cancel()
        await wait_all_tasks_blocked()
        await drained(group)
        engine.held = False
        await group.submit(commit("e"))

    asyncio.run(main())
    assert len(callers) == 4
    for caller in callers:
        assert isinstance(caller.error, StoreUnavailableError)
        assert "not known whether" in str(caller.error)
    assert engine.written == ["e"]


def test_who_waits_behind_a_batch_that_was_cut_off_is_told_too() -> None:
    engine = Engine(held=True)
    callers: list[Caller] = []

    async def main() -> None:
        group = GroupCommit(engine)
        before = asyncio.all_tasks()
        for name in ("a", "b"):
            callers.append(Caller(group, name))
            callers[-1].start_natively()
            await wait_all_tasks_blocked()
        assert engine.batches == [["a"]]
        for task in asyncio.all_tasks() - before - {caller.task for caller in callers}:
            task.cancel()
        await wait_all_tasks_blocked()

    asyncio.run(main())
    assert len(callers) == 2
    for caller in callers:
        assert isinstance(caller.error, StoreUnavailableError)


def test_a_loop_that_closes_before_the_batch_began_strands_nobody() -> None:
    engine = Engine()
    seen: list[str] = []

    async def work(group: GroupCommit) -> None:
        try:
            await group.submit(commit("a"))
        except asyncio.CancelledError:
            seen.append("cancelled")
            await drained(group)
            await group.submit(commit("b"))
            seen.append("cleaned up")
            raise

    async def main() -> None:
        group = GroupCommit(engine)
        task = asyncio.ensure_future(work(group))
        # It submits in the very moment in which the loop is stopped, so that the batch's task
        # does not make its first step any more.
        seen.append(f"{task.done()}")

    asyncio.run(main())
    assert seen == ["False", "cancelled", "cleaned up"]
    assert engine.batches == [["b"]]
