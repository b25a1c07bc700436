"""Group commit: shared batches, own outcomes, and nobody stranded by a cancellation."""

from __future__ import annotations

import asyncio
import random

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

import pytest

from anyio import (
    CancelScope,
    Event,
    create_task_group,
    move_on_after,
    wait_all_tasks_blocked,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from eventport import NewEvent
from eventport._engine import group_commit
from eventport._engine.commits import (
    Commit,
    Committed,
    Conflict,
    Outcome,
    StreamWrite,
    Written,
)
from eventport._engine.group_commit import (
    MAX_BATCH_BYTES,
    MAX_BATCH_COMMITS,
    MAX_BATCH_EVENTS,
    GroupCommit,
)
from eventport.adapter import encode_events
from eventport.errors import NotSupportedError, PayloadTooLargeError, StoreUnavailableError

from eventport_conformance.waiting import HANG_SECONDS


pytestmark = pytest.mark.usefixtures("in_time")

NOW: Final = datetime(2024, 1, 1, tzinfo=UTC)


def commit(name: str, *, events: int = 1, data: str = "1") -> Commit:
    """Make a commit that is told from others by its stream."""
    encoded = encode_events([NewEvent("T", data) for _ in range(events)])
    return Commit([StreamWrite(name, "any", encoded)])


def name_of(outcome: Outcome) -> int:
    assert isinstance(outcome, Committed)
    position = outcome.writes[0].positions[-1]
    assert position is not None
    return position


class Engine:
    """Takes batches, keeps each of them on the wire for as long as the test wants."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.written: list[str] = []
        self.held = held
        self.on_the_wire: list[Event] = []
        self.before_return: Callable[[], object] = lambda: None
        self.refuse: Callable[[Sequence[str]], Exception | None] = lambda _: None
        self.conflicts: set[str] = set()

    async def __call__(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        names = [commit.writes[0].stream for commit in commits]
        self.batches.append(names)
        if self.held:
            event = Event()
            self.on_the_wire.append(event)
            # A test that has failed answers no more, and what is shielded cannot be cancelled.
            with move_on_after(HANG_SECONDS) as waiting:
                await event.wait()
            if waiting.cancelled_caught:
                self.held = False
        else:
            await checkpoint()
        if error := self.refuse(names):
            raise error
        outcomes = [self._write(name) for name in names]
        self.before_return()
        return outcomes

    def _write(self, name: str) -> Outcome:
        if name in self.conflicts:
            return Conflict(name, 0, 7)
        self.written.append(name)
        return Committed([Written(1, [len(self.written)], created=True)])

    async def answer(self) -> None:
        """Let the batch that is on the wire come to its end, and everything that follows."""
        self.on_the_wire.pop(0).set()
        await wait_all_tasks_blocked()


class Caller:
    """One submit in a task of its own, and what became of it."""

    def __init__(self, group: GroupCommit, name: str) -> None:
        self.group = group
        self.commit = commit(name)
        self.scope = CancelScope()
        self.task: asyncio.Task[object] | None = None
        self.ended = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    async def run(self) -> None:
        try:
            with self.scope:
                self.outcome = await self.group.submit(self.commit)
        except Exception as exc:  # noqa: BLE001  # the test looks at it
            self.error = exc
        finally:
            self.ended = True

    def start_natively(self) -> None:
        self.task = asyncio.ensure_future(self.run())

    def cancel(self) -> None:
        if self.task:
            self.task.cancel()
        else:
            self.scope.cancel()


@asynccontextmanager
async def task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that type checkers know to swallow no exception."""
    async with create_task_group() as tasks:
        yield tasks


async def start(tasks: TaskGroup, group: GroupCommit, *names: str) -> list[Caller]:
    """Start callers one after the other, so that they queue in this order on trio, too."""
    callers = [Caller(group, name) for name in names]
    for caller in callers:
        tasks.start_soon(caller.run)
        await wait_all_tasks_blocked()
    return callers


async def test_a_lone_commit_is_sent_at_once() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        [caller] = await start(tasks, group, "a")
        # Everything sleeps now; if a timer had to fire first, nothing would have been sent.
        assert engine.batches == [["a"]]
        await engine.answer()
        assert caller.outcome == Committed([Written(1, [1], created=True)])
    assert engine.batches == [["a"]]


async def test_what_arrives_while_one_is_on_the_wire_becomes_the_next_batch() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        callers = await start(tasks, group, "a", "b", "c", "d")
        assert engine.batches == [["a"]]
        await engine.answer()
        assert engine.batches == [["a"], ["b", "c", "d"]]
        assert [caller.ended for caller in callers] == [True, False, False, False]
        more = await start(tasks, group, "e", "f")
        await engine.answer()
        assert engine.batches == [["a"], ["b", "c", "d"], ["e", "f"]]
        await engine.answer()
    outcomes = [caller.outcome for caller in (*callers, *more)]
    assert [name_of(outcome) for outcome in outcomes if outcome] == [1, 2, 3, 4, 5, 6]


async def test_commits_are_written_in_the_order_of_their_arrival() -> None:
    engine = Engine()
    group = GroupCommit(engine)
    arrived: list[str] = []

    async def submit_some(worker: int) -> None:
        for number in range(20):
            arrived.append(f"{worker}-{number}")
            await group.submit(commit(arrived[-1]))

    async with task_group() as tasks:
        for worker in range(20):
            tasks.start_soon(submit_some, worker)
    assert engine.written == arrived
    assert len(engine.batches) < 200


async def test_each_commit_has_its_own_outcome() -> None:
    engine = Engine(held=True)
    engine.conflicts = {"c"}
    group = GroupCommit(engine)
    async with task_group() as tasks:
        _, b, c, d = await start(tasks, group, "a", "b", "c", "d")
        await engine.answer()
        await engine.answer()
    assert engine.batches == [["a"], ["b", "c", "d"]]
    assert c.outcome == Conflict("c", 0, 7)
    assert (b.outcome and name_of(b.outcome), d.outcome and name_of(d.outcome)) == (2, 3)


async def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one() -> None:
    engine = Engine()
    engine.refuse = lambda names: PayloadTooLargeError("too large") if "c" in names else None
    group = GroupCommit(engine)
    async with task_group() as tasks:
        engine.held = True
        a, b, c, d = await start(tasks, group, "a", "b", "c", "d")
        engine.held = False
        await engine.answer()
    assert engine.batches == [["a"], ["b", "c", "d"], ["b"], ["c"], ["d"]]
    assert engine.written == ["a", "b", "d"]
    assert isinstance(c.error, PayloadTooLargeError)
    assert a.outcome
    assert b.outcome
    assert d.outcome


async def test_a_lone_commit_that_fails_is_not_tried_again() -> None:
    engine = Engine()
    engine.refuse = lambda _: PayloadTooLargeError("too large")
    with pytest.raises(PayloadTooLargeError, match="too large"):
        await GroupCommit(engine).submit(commit("a"))
    assert engine.batches == [["a"]]


async def test_an_unknown_outcome_goes_to_all_and_is_not_tried_again() -> None:
    engine = Engine(held=True)
    engine.refuse = lambda names: StoreUnavailableError("gone") if "b" in names else None
    group = GroupCommit(engine)
    async with task_group() as tasks:
        a, b, c = await start(tasks, group, "a", "b", "c")
        await engine.answer()
        await engine.answer()
        assert engine.batches == [["a"], ["b", "c"]]
        [d] = await start(tasks, group, "d")
        await engine.answer()
    assert isinstance(b.error, StoreUnavailableError)
    assert isinstance(c.error, StoreUnavailableError)
    assert a.outcome
    assert d.outcome


async def test_an_unknown_outcome_among_those_tried_one_by_one_is_that_one_s_own() -> None:
    engine = Engine(held=True)

    def refuse(names: Sequence[str]) -> Exception | None:
        if len(names) > 1:
            return PayloadTooLargeError("together")
        return StoreUnavailableError("gone") if names == ["b"] else None

    engine.refuse = refuse
    group = GroupCommit(engine)
    async with task_group() as tasks:
        _, b, c = await start(tasks, group, "a", "b", "c")
        engine.held = False
        await engine.answer()
    assert isinstance(b.error, StoreUnavailableError)
    assert c.outcome
    assert engine.written == ["a", "c"]


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


async def test_an_append_from_inside_a_commit_is_refused_and_not_waited_for() -> None:
    """It would wait for itself; another group's commit may be waited for."""
    other = GroupCommit(Engine())
    found: list[object] = []

    async def engine(commits: Sequence[Commit]) -> Sequence[Outcome]:
        with pytest.raises(NotSupportedError, match="waits for itself"):
            await group.submit(commit("inner"))
        found.append(await other.submit(commit("elsewhere")))
        return [Committed([Written(1, [1], created=True)])] * len(commits)

    group = GroupCommit(engine)
    for _ in range(2):
        assert isinstance(await group.submit(commit("outer")), Committed)
    assert len(found) == 2


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
    await group.drain()


async def test_when_the_whole_queue_is_cancelled_the_next_caller_is_served() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        _, b, c = await start(tasks, group, "a", "b", "c")
        b.cancel()
        c.cancel()
        await wait_all_tasks_blocked()
        await engine.answer()
        await group.drain()
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
    await group.drain()


async def test_a_caller_who_comes_as_the_last_batch_ends_is_not_forgotten() -> None:
    engine = Engine()
    group = GroupCommit(engine)
    # On asyncio the batch's end and the newcomer's step take place in every order that there is.
    for delay in range(12):

        async def come_later(delay: int = delay) -> None:
            for _ in range(delay):
                await checkpoint()
            await group.submit(commit("late"))

        async with task_group() as tasks:
            tasks.start_soon(group.submit, commit("early"))
            tasks.start_soon(come_later)
    assert len(engine.written) == 24


async def test_a_batch_may_end_without_ever_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def engine(commits: Sequence[Commit]) -> Sequence[Outcome]:
        return [Committed([Written(1, [1], created=True)])] * len(commits)

    def start_eagerly(
        work: Callable[[], Coroutine[object, object, None]], *, never_begun: Callable[[], None]
    ) -> object:
        """Do what event loops with eager tasks do: run up to the first wait."""
        with pytest.raises(StopIteration):
            work().send(None)
        return object()

    monkeypatch.setattr(group_commit, "start_task", start_eagerly)
    group = GroupCommit(engine)
    for name in ("a", "b"):
        assert isinstance(await group.submit(commit(name)), Committed)
    await group.drain()


async def test_others_get_a_turn_between_two_batches() -> None:
    """However many commits wait, and even if the engine never waits for anything."""
    turns, seen = 0, list[int]()

    async def commit_at_once(batch: Sequence[Commit]) -> Sequence[Outcome]:
        seen.append(turns)
        return [Committed([Written(1, [1], created=True)]) for _ in batch]

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    group = GroupCommit(commit_at_once)
    async with task_group() as tasks:
        tasks.start_soon(count_turns)
        await checkpoint()
        async with task_group() as callers:
            for number in range(10 * MAX_BATCH_COMMITS):
                callers.start_soon(group.submit, commit(f"s-{number}"))
        tasks.cancel_scope.cancel()
    assert len(seen) >= 10
    assert len(set(seen)) >= len(seen) / 2  # trio runs tasks in any order


async def test_an_engine_that_gives_too_few_outcomes_is_reported_to_all() -> None:
    async def engine(commits: Sequence[Commit]) -> Sequence[Outcome]:
        await checkpoint()
        return []

    group = GroupCommit(engine)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="0 outcomes for 1 commits"):
            await group.submit(commit("a"))


async def test_a_batch_is_full_at_a_number_of_events() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    third = MAX_BATCH_EVENTS // 3
    async with task_group() as tasks:
        await start(tasks, group, "a")
        for name, events in (("b", third), ("c", third), ("d", third + 2), ("e", 1)):
            tasks.start_soon(group.submit, commit(name, events=events))
            await wait_all_tasks_blocked()
        for _ in range(3):
            await engine.answer()
    assert engine.batches == [["a"], ["b", "c"], ["d", "e"]]


async def test_a_batch_is_full_at_a_number_of_commits() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        await start(tasks, group, "a")
        for number in range(MAX_BATCH_COMMITS + 1):
            tasks.start_soon(group.submit, commit(f"b-{number}"))
        await wait_all_tasks_blocked()
        for _ in range(3):
            await engine.answer()
    assert [len(batch) for batch in engine.batches] == [1, MAX_BATCH_COMMITS, 1]


@pytest.mark.parametrize("letter", ["x", "é", "🌻"])
async def test_a_batch_is_full_at_a_number_of_bytes(letter: str) -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    third = letter * (MAX_BATCH_BYTES // 3 // len(letter.encode()))
    async with task_group() as tasks:
        await start(tasks, group, "a")
        for name in ("b", "c", "d"):
            tasks.start_soon(group.submit, commit(name, data=third))
            await wait_all_tasks_blocked()
        for _ in range(3):
            await engine.answer()
    assert engine.batches == [["a"], ["b", "c"], ["d"]]


async def test_a_commit_beyond_the_limits_has_a_batch_of_its_own() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    async with task_group() as tasks:
        await start(tasks, group, "a")
        tasks.start_soon(partial(group.submit, commit("b", events=2 * MAX_BATCH_EVENTS)))
        await wait_all_tasks_blocked()
        await start(tasks, group, "c")
        for _ in range(3):
            await engine.answer()
    assert engine.batches == [["a"], ["b"], ["c"]]


async def test_drain_waits_for_all_that_is_pending() -> None:
    engine = Engine(held=True)
    group = GroupCommit(engine)
    await group.drain()
    drained = Event()

    async def drain() -> None:
        await group.drain()
        drained.set()

    async with task_group() as tasks:
        await start(tasks, group, "a", "b")
        tasks.start_soon(drain)
        await engine.answer()
        assert not drained.is_set()
        await engine.answer()
        assert drained.is_set()
    assert engine.written == ["a", "b"]


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
    await chaos.group.drain()
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
        await group.drain()
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
            await group.drain()
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
