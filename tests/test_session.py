"""The unit of work: what a session sees, pins, refuses, and commits in one piece."""

from __future__ import annotations

from uuid import uuid4

import anyio
import pytest

from anyio import wait_all_tasks_blocked
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.engines import TinyPages
from tests.tasks import task_group

from eventport import (
    NO_STREAM,
    Capability,
    ConcurrencyError,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    Session,
    StoreClosedError,
    Streams,
    run_in_session,
)
from eventport.adapter import Engine, Store, StreamPage, StreamQuery
from eventport.conflicts import retry_conflicts

from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


class OneStream(MemoryEngine):
    """An engine whose backend cannot write two streams at once."""

    capabilities = frozenset({Capability.GLOBAL_ORDER})
    limitations = {Capability.SESSIONS: "it has no transactions"}


def opened(engine: Engine) -> Store:
    return Store(engine, batching="never")


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("T", number) for number in range(first, last + 1)]


async def contents(streams: Streams, stream: str) -> list[object]:
    return [event.data for event in (await streams.read(stream)).events]


async def test_nothing_is_seen_before_the_commit_and_all_after_it() -> None:
    engine = TinyPages()
    store = opened(engine)
    async with store.session() as session:
        first = await session.append("a", numbered(1, 2), expected=NO_STREAM)
        second = await session.append("b", numbered(3, 3))
        third = await session.append("a", numbered(4, 4), expected=2)
        assert [(r.version, r.position, r.created) for r in (first, second, third)] == [
            (2, None, True),
            (1, None, True),
            (3, None, False),
        ]
        assert await contents(session, "a") == [1, 2, 4]
        assert await contents(store, "a") == []
        assert (await store.read_all()).events == []
        assert session.position is None
        assert engine.commits == 0
    assert engine.commits == 1
    everything = await store.read_all()
    assert [event.data for event in everything.events] == [1, 2, 3, 4]
    assert session.position == everything.position == 4


async def test_a_cancellation_commits_nothing() -> None:
    engine = TinyPages()
    store = opened(engine)
    with anyio.CancelScope() as scope:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            scope.cancel()
            await anyio.sleep(1)
    assert engine.commits == 0


async def test_an_empty_append_writes_nothing() -> None:
    engine = OneStream()
    store = opened(engine)
    async with store.session() as session:
        result = await session.append("a", [])
        assert (result.version, result.position, result.created) == (0, None, False)
        await session.append("b", numbered(1, 1))
        await session.append("c", [])
    assert len((await store.read_all()).events) == 1


async def test_an_earlier_try_is_found_in_the_store() -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("a", numbered(1, 1))
    events = numbered(2, 6)
    original = await store.append("a", events, expected=1)
    await store.append("a", numbered(7, 7))
    async with store.session() as session:
        result = await session.append("a", events, expected=1)
        assert result.deduplicated
        assert (result.version, result.position) == (original.version, original.position)
        with pytest.raises(ConcurrencyError):
            await session.append("a", events[:-1], expected=2)
        with pytest.raises(ConcurrencyError):
            await session.append("a", [*events[:-1], *numbered(6, 6)], expected=1)
        with pytest.raises(ConcurrencyError):
            await session.append("a", [*events, *numbered(7, 7)], expected=1)
    assert await contents(store, "a") == [1, 2, 3, 4, 5, 6, 7]
    assert engine.commits == 3


async def test_an_earlier_try_is_found_in_the_session_itself() -> None:
    engine = TinyPages()
    store = opened(engine)
    events = numbered(1, 3)
    async with store.session() as session:
        await session.append("a", events, expected=NO_STREAM)
        result = await session.append("a", events, expected=NO_STREAM)
        assert (result.version, result.position, result.created) == (3, None, True)
        assert result.deduplicated
    assert await contents(store, "a") == [1, 2, 3]


async def test_a_session_tried_again_after_a_lost_answer_writes_nothing_again() -> None:
    engine = TinyPages()
    store = opened(engine)
    ids = [uuid4() for _ in range(2)]

    async def transfer(session: Session) -> list[bool]:
        first = await session.append("a", [NewEvent("T", 1, id=ids[0])], expected=NO_STREAM)
        second = await session.append("b", [NewEvent("T", 2, id=ids[1])], expected=NO_STREAM)
        return [first.deduplicated, second.deduplicated]

    assert await run_in_session(store, transfer) == [False, False]
    assert await run_in_session(store, transfer) == [True, True]
    assert (await store.read_all()).position == 2


async def test_sessions_one_in_another_are_rivals_like_any_others() -> None:
    engine = TinyPages()
    store = opened(engine)

    async def work() -> None:
        async with store.session() as outer:
            await outer.append("a", numbered(1, 1))
            async with store.session() as inner:
                assert await contents(inner, "a") == []
                await inner.append("b", numbered(2, 2))
                await inner.append("a", numbered(3, 3))
            assert await contents(outer, "a") == [1]
            assert await contents(outer, "b") == [2]

    with pytest.raises(ConcurrencyError):
        await work()
    assert await contents(store, "a") == [3]
    assert await contents(store, "b") == [2]


class SlowToRead(TinyPages):
    """An engine that shows the stream named "slow" when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        if query.stream == "slow":
            await self.go.wait()
        return await super().read_stream(query)


async def test_an_append_that_is_overtaken_by_the_block_s_end_is_refused() -> None:
    engine = SlowToRead()
    store = opened(engine)
    errors: list[Exception] = []

    async def append_late(session: Session) -> None:
        try:
            await session.append("slow", numbered(1, 1))
        except StoreClosedError as exc:
            errors.append(exc)

    async with task_group() as tasks:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            tasks.start_soon(append_late, session)
            await wait_all_tasks_blocked()
        engine.go.set()
    assert len(errors) == 1
    assert (await store.read_all()).position == 1


async def test_tasks_that_share_a_session_lose_nothing() -> None:
    engine = TinyPages(1)
    store = opened(engine)
    await store.append("a", numbered(1, 3))
    async with store.session() as session, task_group() as tasks:

        async def work(worker: int) -> None:
            for number in range(5):
                result = await session.append("a", [NewEvent("T", f"{worker}-{number}")])
                read = await session.read("a", from_version=result.version, max_count=1)
                assert read.events[0].data == f"{worker}-{number}"
                seen = await contents(session, "a")
                assert seen[:3] == [1, 2, 3]
                assert len(seen) == len(set(map(str, seen)))

        for worker in range(4):
            tasks.start_soon(work, worker)
    assert len(await contents(store, "a")) == 23


async def test_a_second_stream_is_refused_by_a_backend_that_cannot_do_it() -> None:
    engine = OneStream()
    store = opened(engine)

    async def work() -> None:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            await session.read("b")
            await session.append("a", numbered(2, 2))
            await session.append("b", numbered(3, 3))

    with pytest.raises(NotSupportedError, match="no sessions: it has no transactions"):
        await work()
    assert (await store.read_all()).events == []
    async with store.session() as session:
        await session.append("a", numbered(1, 1))
        await session.append("a", numbered(2, 2))
    assert await contents(store, "a") == [1, 2]


async def test_other_errors_are_not_tried_again() -> None:
    tries = 0

    async def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        raise LookupError("no")

    with pytest.raises(LookupError):
        await run_in_session(opened(TinyPages()), work)
    assert tries == 1
    with pytest.raises(InvalidArgumentError, match="attempts must be from 1"):
        await run_in_session(opened(TinyPages()), work, attempts=0)
    assert tries == 1


async def test_many_tasks_that_try_again_all_succeed() -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("sum", [NewEvent("T", 0)])

    async def increase(session: Session) -> None:
        last = (await session.read("sum", backwards=True, max_count=1)).events[0]
        await wait_all_tasks_blocked()
        await session.append("sum", [NewEvent("T", last.data + 1)])

    async with task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lambda: run_in_session(store, increase, attempts=20))
    assert await contents(store, "sum") == [0, 1, 2, 3, 4]


@settings(max_examples=200, deadline=None)
@example(3, 3, [2], 0, 1, None, 3, True)
@example(3, 1, [3], 0, 1, None, 2, True)
@example(3, 1, [3], 2, 1, 3, 1, True)
@example(3, 2, [3], 0, 1, None, 3, False)
@given(
    size=st.integers(1, 3),
    stored=st.integers(0, 6),
    own=st.lists(st.integers(1, 3), max_size=3),
    moved=st.integers(0, 3),
    first=st.integers(1, 12),
    last=st.none() | st.integers(0, 12),
    count=st.none() | st.integers(0, 12),
    backwards=st.booleans(),
)
def test_pages_of_the_store_and_own_events_merge(
    size: int,
    stored: int,
    own: list[int],
    moved: int,
    first: int,
    last: int | None,
    count: int | None,
    backwards: bool,
) -> None:
    async def check() -> None:
        engine = TinyPages(size)
        store = opened(engine)
        await store.append("s", numbered(1, stored))
        model = list(range(1, stored + 1))
        unit = store.session()
        session = await unit.__aenter__()
        await session.read("s", max_count=0)
        await store.append("s", numbered(100, 99 + moved))
        for number in own:
            await session.append("s", numbered(len(model) + 1, len(model) + number))
            model += range(len(model) + 1, len(model) + number + 1)
        read = await session.read(
            "s", from_version=first, to_version=last, max_count=count, backwards=backwards
        )
        wanted = model[first - 1 : last]
        wanted = wanted[::-1] if backwards else wanted
        assert [event.data for event in read.events] == wanted[:count]
        assert [event.version for event in read.events] == wanted[:count]
        assert (read.version, read.exists) == (len(model), bool(model))
        going = session.iterate("s", from_version=first, to_version=last, backwards=backwards)
        assert [event.data async for event in going] == wanted
        nothing: list[object] = []
        folded = await session.aggregate(
            "s", lambda state, event: [*state, event.data], lambda: nothing, to_version=last
        )
        assert folded.state == model[:last]
        assert folded.exists == bool(model)
        assert folded.version == (len(model) if last is None else min(last, len(model)))

    anyio.run(check)


async def test_however_often_it_is_tried_the_pauses_stay_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def conflict() -> None:
        raise ConcurrencyError("a", 1, 2)

    monkeypatch.setattr("eventport.conflicts.sleep", sleep)
    with pytest.raises(ConcurrencyError):
        await retry_conflicts(Store(MemoryEngine()), conflict, attempts=2000)
    assert len(pauses) == 1998
    assert 0.05 < max(pauses) < 0.5
