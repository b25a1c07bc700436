"""Calls of an engine behind a connection: nothing is lost or written twice, and all end in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio.lowlevel
import pytest

from anyio import CancelScope, Event, create_task_group, sleep_forever

from eventport import NewEvent, StoreUnavailableError
from eventport._engine.calls import RemoteCalls
from eventport._engine.codec import encode_events
from eventport.adapter import (
    AllPage,
    AllQuery,
    AnswerLostError,
    Commit,
    Committed,
    ConnectionLostError,
    Failed,
    Outcome,
    Store,
    StreamPage,
    StreamQuery,
    StreamWrite,
    retry_lost,
)
from eventport.errors import HistoryReplacedError, NotSupportedError, PayloadTooLargeError

from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")

LOST: Final = AnswerLostError("the connection dropped")
DOWN: Final = ConnectionLostError("nobody listens")


class FarEngine(MemoryEngine):
    """Does what a script says with each call, before or after the call takes place."""

    timeout = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Exception | None] = []
        self.after: list[Exception | None] = []
        self.searches: list[Exception | None] = []
        self.calls: list[str] = []
        self.keep_silent = False
        self.is_silent_after_script = False
        self.interruptions = 0
        self._interrupted = Event()
        self.outcome: Callable[[Commit], Outcome | None] = lambda _: None

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        self.calls.append(f"commit {len(batch)}")
        await self._play(self.before)
        outcomes = [
            self.outcome(commit) or (await super(FarEngine, self).commit([commit]))[0]
            for commit in batch
        ]
        await self._play(self.after)
        return outcomes

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        self.calls.append(f"find {len(commits)}")
        await self._play(self.searches)
        return [await self._find(commit) for commit in commits]

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        self.calls.append("read")
        await self._play(self.before)
        return await super().read_stream(query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        self.calls.append("read all")
        await self._play(self.before)
        return await super().read_all(query)

    def interrupt(self) -> None:
        self.interruptions += 1
        self.keep_silent = False
        self._interrupted.set()

    async def _play(self, script: list[Exception | None]) -> None:
        if self.keep_silent or (self.is_silent_after_script and not script):
            await self._interrupted.wait()
            raise LOST
        if script and (error := script.pop(0)) is not None:
            raise error

    async def _find(self, commit: Commit) -> Committed | None:
        """Say what this engine really holds of a commit."""
        (write,) = commit.writes
        page = await super().read_stream(StreamQuery(write.stream))
        ids = {event.id for event in write.events}
        if not ids & {event.id for event in page.events}:
            return None
        before = next(e.version for e in page.events if e.id in ids) - 1
        exact = StreamWrite(write.stream, before, write.events)
        (found,) = await super().commit([Commit((exact,))])
        assert isinstance(found, Committed)
        return Committed(found.writes)


@pytest.fixture
def engine() -> FarEngine:
    return FarEngine()


@pytest.fixture
def store(engine: FarEngine) -> Store:
    return Store(engine)


async def stored(engine: FarEngine) -> list[object]:
    page = await MemoryEngine.read_all(engine, AllQuery())
    return [event.data for event in page.events]


async def test_an_answer_that_was_lost_is_found(engine: FarEngine, store: Store) -> None:
    engine.after = [LOST]
    result = await store.append("a", [NewEvent("A", 1)])
    assert (result.version, result.created, result.deduplicated) == (1, True, False)
    assert await stored(engine) == [1]
    assert engine.calls == ["commit 1", "find 1"]


async def test_what_was_not_written_is_written_again(engine: FarEngine, store: Store) -> None:
    engine.before = [LOST]
    await store.append("a", [NewEvent("A", 1)])
    assert await stored(engine) == [1]
    assert engine.calls == ["commit 1", "find 1", "commit 1"]


async def test_without_a_connection_nothing_is_looked_for(engine: FarEngine, store: Store) -> None:
    engine.before = [DOWN, DOWN]
    await store.append("a", [NewEvent("A", 1)])
    assert await stored(engine) == [1]
    assert engine.calls == ["commit 1"] * 3


@pytest.mark.parametrize("error", [LOST, DOWN, NotSupportedError("locked"), RuntimeError("odd")])
async def test_an_error_of_the_search_is_no_answer_to_the_append(
    engine: FarEngine, store: Store, error: Exception
) -> None:
    engine.after = [LOST]
    engine.searches = [error, error, error]
    await store.append("a", [NewEvent("A", 1)])
    assert await stored(engine) == [1]
    assert engine.calls == ["commit 1"] + ["find 1"] * 4


async def test_what_stays_unknown_is_said_to_be_unknown(engine: FarEngine, store: Store) -> None:
    engine.timeout = 1  # a busy machine may pause for longer than less
    engine.after = [LOST]
    engine.searches = [DOWN] * 1000
    with pytest.raises(StoreUnavailableError, match="not known whether"):
        await store.append("a", [NewEvent("A", 1)])
    assert engine.calls.count("commit 1") == 1


async def test_a_server_that_stays_away_wrote_nothing(engine: FarEngine, store: Store) -> None:
    engine.timeout = 1  # a busy machine may pause for longer than less
    engine.before = [DOWN] * 1000
    with pytest.raises(StoreUnavailableError, match="nothing was written"):
        await store.append("a", [NewEvent("A", 1)])
    with pytest.raises(StoreUnavailableError, match="nobody listens"):
        await store.read("a")
    assert not any(call.startswith("find") for call in engine.calls)


async def test_a_late_search_that_finds_nothing_ends_the_attempts(engine: FarEngine) -> None:
    """Each try loses its answer; what is left over of the time for searching is not for tries."""
    engine.timeout = 1  # a busy machine may pause for longer than less
    calls = RemoteCalls(engine, engine)
    engine.before = [LOST] * 10_000
    commit = Commit((StreamWrite("a", "any", encode_events([NewEvent("A", 1)])),))
    (outcome,) = await calls.commit([commit])
    assert isinstance(outcome, Failed)
    assert "nothing was written" in str(outcome.error)
    assert engine.calls[-1] == "find 1"
    assert await stored(engine) == []


async def test_nothing_is_tried_again_for_callers_that_have_gone(
    engine: FarEngine, store: Store
) -> None:
    engine.before = [DOWN] * 1000
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "a", [NewEvent("A", 1)])
        while not engine.calls:  # nobody tells
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    tried = len(engine.calls)
    engine.before.clear()
    await store.append("a", [NewEvent("A", 2)])
    assert len(engine.calls) == tried + 1
    assert await stored(engine) == [2]


async def test_what_may_have_been_written_is_found_out_for_callers_that_have_gone(
    engine: FarEngine, store: Store
) -> None:
    engine.after = [LOST]
    engine.searches = [DOWN] * 3
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "a", [NewEvent("A", 1)])
        while len(engine.calls) < 2:  # nobody tells
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert engine.calls == ["commit 1"] + ["find 1"] * 4


async def test_a_silent_connection_ends_every_call(engine: FarEngine, store: Store) -> None:
    engine.timeout = 1  # a busy machine may pause for longer than less
    engine.keep_silent = True
    with pytest.raises(StoreUnavailableError, match="not known whether"):
        await store.append("a", [NewEvent("A", 1)])
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        await store.read("a")
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        await store.read_all()
    await store.aclose()


async def test_the_reason_outlives_a_last_attempt_that_is_cut_short() -> None:
    attempts = 0

    async def call() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise DOWN
        await sleep_forever()

    with pytest.raises(ConnectionLostError, match="nobody listens"):
        await retry_lost(call, 0.1, "there")
    assert attempts == 2


async def test_reads_are_asked_again(engine: FarEngine, store: Store) -> None:
    await store.append("a", [NewEvent("A", 1)])
    engine.before = [DOWN, LOST]
    assert (await store.read("a")).version == 1
    engine.before = [DOWN, LOST]
    assert len((await store.read_all()).events) == 1


async def test_a_lost_member_of_a_batch_is_settled_alone(engine: FarEngine) -> None:
    """An engine that writes each commit by itself may lose the answer to one of them."""
    lost = [True]

    def outcome(commit: Commit) -> Outcome | None:
        if commit.writes[0].stream == "b" and lost:
            lost.clear()
            return Failed(LOST)
        return None

    engine.outcome = outcome
    store = Store(engine)
    async with store.session() as session:
        await session.append("a", [NewEvent("A", 1)])
    await store.append("b", [NewEvent("A", 2)])
    assert await stored(engine) == [1, 2]


async def test_an_error_after_a_search_spares_what_was_found(engine: FarEngine) -> None:
    """Of a lost batch one commit is there; the other, tried again, is refused, and it alone."""
    calls = RemoteCalls(engine, engine)
    first, second = (
        Commit((StreamWrite(name, "any", encode_events([NewEvent("A", number)])),))
        for number, name in enumerate("ab")
    )
    engine.after = [LOST]

    def only_the_first(commit: Commit) -> Outcome | None:
        return Failed(LOST) if commit is second else None

    engine.outcome = only_the_first
    engine.searches = []

    async def refuse(commit: Commit) -> None:
        raise PayloadTooLargeError(commit.writes[0].stream)

    tried = engine.commit

    async def commit(batch: Sequence[Commit], /) -> Sequence[Outcome]:
        if list(batch) == [second]:
            await refuse(second)
        return await tried(batch)

    engine.commit = commit  # type: ignore[method-assign]  # a server that refuses from now on
    found = await calls.commit([first, second])
    assert isinstance(found[0], Committed)
    assert isinstance(found[1], Failed)
    assert isinstance(found[1].error, PayloadTooLargeError)
    assert await stored(engine) == [0]


async def test_a_page_of_another_history_is_never_handed_out(
    engine: FarEngine, store: Store
) -> None:
    await store.append("a", [NewEvent("A", 1), NewEvent("A", 2)])
    async with store.subscribe() as subscription:
        for number in (1, 2):
            assert (await anext(subscription)).data == number
        engine._log.events.clear()
        engine._log.streams.clear()
        await store.append("b", [NewEvent("B", number) for number in (7, 8, 9)])
        engine.before = [DOWN]
        with pytest.raises(HistoryReplacedError):
            await anext(subscription)


class HangingEngine(FarEngine):
    """Never answers a commit, which it has written or not."""

    def __init__(self, *, writes: bool) -> None:
        super().__init__()
        self.reached = Event()
        self._writes = writes

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        if self.reached.is_set():
            return await super().commit(batch)
        if self._writes:
            await super().commit(batch)
        self.reached.set()
        await sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("writes", [True, False])
async def test_a_cancelled_lone_caller_waits_until_it_is_known_what_became_of_its_commit(
    *, writes: bool
) -> None:
    engine = HangingEngine(writes=writes)
    store = Store(engine, batching="contended")
    with CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(store.append, "a", [NewEvent("A", 1)])
            await engine.reached.wait()
            tasks.start_soon(store.append, "b", [NewEvent("B", 2)])  # it waits for the first
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert engine.calls[-1] == "find 1"
    assert await stored(engine) == ([1] if writes else [])
    await store.append("c", [NewEvent("C", 3)])  # the store is as it was
    assert (await stored(engine))[-1] == 3


async def test_a_lone_caller_that_is_cancelled_before_anything_was_sent_does_not_wait() -> None:
    engine = FarEngine()
    engine.before = [DOWN] * 1000
    store = Store(engine, batching="contended")
    async with create_task_group() as tasks:
        tasks.start_soon(store.append, "a", [NewEvent("A", 1)])
        while not engine.calls:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert set(engine.calls) == {"commit 1"}
