"""Group commit: shared batches, own outcomes, and nobody stranded by a cancellation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import pytest

from anyio import Event, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tests.committing import Engine, commit, drained, name_of, start
from tests.tasks import task_group

from eventport._concurrency import queueing
from eventport._engine.commits import (
    Commit,
    Committed,
    Conflict,
    Outcome,
    Written,
)
from eventport._engine.group_commit import (
    MAX_BATCH_BYTES,
    MAX_BATCH_COMMITS,
    MAX_BATCH_EVENTS,
    GroupCommit,
)
from eventport.errors import NotSupportedError, PayloadTooLargeError, StoreUnavailableError


pytestmark = pytest.mark.usefixtures("in_time")

NOW: Final = datetime(2024, 1, 1, tzinfo=UTC)


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

    monkeypatch.setattr(queueing, "start_task", start_eagerly)
    group = GroupCommit(engine)
    for name in ("a", "b"):
        assert isinstance(await group.submit(commit(name)), Committed)
    await drained(group)


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


@pytest.mark.parametrize("is_alone", [False, True])
async def test_a_task_that_a_commit_has_begun_may_append_once_that_has_ended(
    is_alone: bool,
) -> None:
    ended, found = Event(), list[Outcome]()

    async def later() -> None:
        await ended.wait()
        found.append(await group.submit(commit("later"), is_alone=is_alone))

    async def engine(commits: Sequence[Commit]) -> Sequence[Outcome]:
        if not ended.is_set():
            tasks.start_soon(later)
        return [Committed([Written(1, [1], created=True)])] * len(commits)

    group = GroupCommit(engine, commit_here=lambda alone: engine([alone]))
    async with task_group() as tasks:
        await group.submit(commit("first"), is_alone=is_alone)
        ended.set()
    assert len(found) == 1
