"""Commits to locked streams: they wait off the wire, and hold up nobody else."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

import pytest

from anyio import Event, create_task_group
from anyio.lowlevel import checkpoint

from eventport import NewEvent, StoreUnavailableError
from eventport.adapter import Blocked, Commit, Outcome, Store

from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


class LockingEngine(MemoryEngine):
    """Blocks commits to the streams that a script says are locked, and by whom."""

    timeout = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.lockers: dict[str, Hashable] = {}
        self.batches: list[list[str]] = []
        self.questions = 0
        self.asked = Event()
        self.error: Exception | None = None

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        self.batches.append([write.stream for commit in batch for write in commit.writes])
        await checkpoint()
        return [
            Blocked()
            if any(write.stream in self.lockers for write in commit.writes)
            else (await super(LockingEngine, self).commit([commit]))[0]
            for commit in batch
        ]

    async def find_lockers(self, streams: Collection[str], /) -> Mapping[str, Hashable | None]:
        self.questions += 1
        self.asked.set()
        if self.error is not None:
            raise self.error
        return {stream: self.lockers.get(stream) for stream in streams}

    async def was_asked_again(self) -> None:
        """Wait until the locks have been looked at twice more."""
        for _ in range(2):
            self.asked = Event()
            await self.asked.wait()


@pytest.fixture
def engine() -> LockingEngine:
    return LockingEngine()


@pytest.fixture
def store(engine: LockingEngine) -> Store:
    return Store(engine)


async def test_a_locked_stream_holds_up_nobody_else(engine: LockingEngine, store: Store) -> None:
    engine.lockers = {"locked": "somebody"}
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "locked", [NewEvent("E", 0)])
        await engine.was_asked_again()  # so it is parked: trio starts tasks in any order
        for number in (1, 2):
            tasks.start_soon(store.append, "locked", [NewEvent("E", number)])
            await store.append("free", [NewEvent("E", number)])
        await engine.was_asked_again()
        # Only the first of them was tried; the later ones wait behind it.
        assert sum(batch.count("locked") for batch in engine.batches) == 1
        assert not (await store.read("locked")).exists
        engine.lockers = {}
    events = (await store.read("locked")).events
    assert sorted(event.data for event in events) == [0, 1, 2]


async def test_a_stream_that_others_lock_in_turn_is_tried_in_between(
    engine: LockingEngine, store: Store
) -> None:
    engine.lockers = {"hot": "first"}
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "hot", [NewEvent("E", 1)])
        await engine.was_asked_again()
        assert len(engine.batches) == 1
        engine.lockers = {"hot": "second"}
        await engine.was_asked_again()
        assert len(engine.batches) == 2
        engine.lockers = {}
    assert (await store.read("hot")).version == 1


async def test_a_stream_that_stays_locked_ends_the_wait(
    engine: LockingEngine, store: Store
) -> None:
    engine.timeout = 0.05
    engine.lockers = {"locked": "somebody"}
    with pytest.raises(StoreUnavailableError, match=r"'locked'.*nothing was written"):
        await store.append("locked", [NewEvent("E", 1)])
    engine.timeout, engine.lockers = 60.0, {}
    assert (await store.append("locked", [NewEvent("E", 2)])).version == 1


async def test_who_gives_up_leaves_nothing_behind(engine: LockingEngine, store: Store) -> None:
    engine.lockers = {"locked": "somebody"}
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "locked", [NewEvent("E", 1)])
        await engine.was_asked_again()
        tasks.cancel_scope.cancel()
    engine.lockers = {}
    assert (await store.append("locked", [NewEvent("E", 2)])).version == 1
    await store.aclose()


async def test_closing_waits_for_parked_commits(engine: LockingEngine, store: Store) -> None:
    engine.lockers = {"locked": "somebody"}
    closed = Event()

    async def close() -> None:
        await store.aclose()
        closed.set()

    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "locked", [NewEvent("E", 1)])
        await engine.was_asked_again()
        tasks.start_soon(close)
        await engine.was_asked_again()
        assert not closed.is_set()
        engine.lockers = {}
    assert closed.is_set()
    assert engine.batches[-1] == ["locked"]


async def test_an_error_of_the_question_only_delays(engine: LockingEngine, store: Store) -> None:
    engine.lockers = {"locked": "somebody"}
    engine.error = StoreUnavailableError("nobody listens")
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "locked", [NewEvent("E", 1)])
        await engine.was_asked_again()
        engine.error, engine.lockers = None, {}
    assert (await store.read("locked")).version == 1
