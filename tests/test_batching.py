"""How commits are grouped, in each of the three ways; and stores inside a caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from anyio import CancelScope, Event, create_task_group, get_current_task, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from eventport import NewEvent, NotSupportedError, RecordedEvent
from eventport.adapter import Batching, Commit, JoinedStore, Outcome, Store, run_shielded

from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


class Noting(MemoryEngine):
    """Notes each batch, and the task that writes it; commits end when a test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.tasks: list[int] = []
        self.running = self.most_at_once = 0
        self.go = Event()
        self.closed = False

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        # Trio starts tasks in any order.
        self.batches.append(sorted(commit.writes[0].stream for commit in batch))
        self.tasks.append(get_current_task().id)
        return await run_shielded(self._commit, batch)

    async def _commit(self, batch: Sequence[Commit]) -> Sequence[Outcome]:
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await self.go.wait()
        assert not self.closed
        self.running -= 1
        return await super().commit(batch)

    async def close(self) -> None:
        self.closed = True


def one() -> list[NewEvent]:
    return [NewEvent("E", None)]


each_mode = pytest.mark.parametrize("batching", get_args(Batching))


async def test_always_is_one_batch_at_a_time_in_a_task_of_its_own() -> None:
    engine = Noting()
    async with Store(engine, batching="always") as store:
        await _append_together(store, engine)
        assert engine.batches == [["a"], ["b", "c"]]
        assert engine.most_at_once == 1
        await store.append("d", one())
        assert get_current_task().id not in engine.tasks


async def test_contended_writes_a_lone_commit_in_the_callers_task_and_groups_the_others() -> None:
    engine = Noting()
    async with Store(engine, batching="contended") as store:
        await _append_together(store, engine)
        assert engine.batches == [["a"], ["b", "c"]]
        await store.append("d", one())
        assert engine.batches[2:] == [["d"]]
        assert engine.tasks[2] == get_current_task().id


async def test_never_writes_each_commit_alone_and_all_at_once() -> None:
    engine = Noting()
    async with Store(engine, batching="never") as store:
        await _append_together(store, engine)
        assert sorted(engine.batches) == [["a"], ["b"], ["c"]]
        assert engine.most_at_once == 3
        assert len(set(engine.tasks)) == 3


async def _append_together(store: Store, engine: Noting) -> None:
    """Append to `a`, and to `b` and `c` while that is on its way."""
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "a", one())
        await wait_all_tasks_blocked()
        tasks.start_soon(store.append, "b", one())
        tasks.start_soon(store.append, "c", one())
        await wait_all_tasks_blocked()
        engine.go.set()


@each_mode
async def test_a_cancelled_caller_returns_when_nothing_is_written_any_more(
    batching: Batching,
) -> None:
    engine = Noting()
    ended: list[str] = []

    async def append(scope: CancelScope) -> None:
        with scope:
            await store.append("a", one())
        ended.append("append")

    async with Store(engine, batching=batching) as store:
        async with create_task_group() as tasks:
            scope = CancelScope()
            tasks.start_soon(append, scope)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert ended == []
            engine.go.set()
        assert ended == ["append"]
        assert engine.running == 0
        assert (await store.read("a")).version == 1
        await store.append("b", one())  # the store is as it was
        assert engine.batches == [["a"], ["b"]]


@each_mode
async def test_a_caller_that_is_cancelled_before_it_begins_writes_nothing(
    batching: Batching,
) -> None:
    engine = Noting()
    engine.go.set()
    async with Store(engine, batching=batching) as store:
        with CancelScope() as scope:
            scope.cancel()
            await checkpoint()
            await store.append("a", one())
        assert scope.cancelled_caught
        assert engine.batches == []
        assert (await store.append("a", one(), expected=0)).version == 1


@each_mode
@pytest.mark.parametrize("cancelled", [False, True])
async def test_closing_waits_for_a_lone_commit_on_its_way(
    batching: Batching, *, cancelled: bool
) -> None:
    engine = Noting()
    store = Store(engine, batching=batching)
    scope = CancelScope()

    async def append() -> None:
        with scope:
            await store.append("a", one())

    async with create_task_group() as tasks:
        tasks.start_soon(append)
        await wait_all_tasks_blocked()
        tasks.start_soon(store.aclose)
        await wait_all_tasks_blocked()
        if cancelled:
            scope.cancel()
            await wait_all_tasks_blocked()
        assert not engine.closed
        engine.go.set()
    assert engine.closed
    assert scope.cancelled_caught == cancelled
    assert engine.name == "1 events in 1 streams"


async def test_a_store_in_a_transaction_has_neither_hooks_nor_subscriptions() -> None:
    async def hook(events: Sequence[RecordedEvent]) -> None:
        raise AssertionError

    engine = Noting()
    engine.go.set()
    async with JoinedStore(engine) as store:
        with pytest.raises(NotSupportedError, match=r"hook.* only the owner of the transaction"):
            store.after_commit(hook)
        with pytest.raises(NotSupportedError, match="a subscription needs a store of its own"):
            store.subscribe(after=1)
        assert (await store.append("a", one())).version == 1
        assert engine.tasks == [get_current_task().id]  # in the task that holds the transaction
