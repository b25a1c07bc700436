"""The unit of work: what a session sees, pins, refuses, and commits in one piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import pytest

from anyio import create_task_group, wait_all_tasks_blocked
from anyio.abc import TaskGroup
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Capability,
    ConcurrencyError,
    Expectation,
    InvalidArgumentError,
    InvalidEventError,
    InvalidStreamNameError,
    NewEvent,
    NotSupportedError,
    Session,
    StoreClosedError,
    Streams,
    run_in_session,
)
from eventport.adapter import Commit, Outcome, StreamPage
from eventport.session import retry_conflicts

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.usefixtures("in_time")


class TinyPages(MemoryEventStore):
    """A store that gives at most a few events at once, whatever it is asked for."""

    page_size = 4

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size
        self.reads = 0
        self.commits = 0

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        self.reads += 1
        count = self.size if max_count is None else min(self.size, max_count)
        return await super()._read_stream(stream, first, last, count, backwards=backwards)

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        self.commits += len(commits)
        return await super()._commit(commits)


class OneStream(MemoryEventStore):
    """A store whose backend cannot write two streams at once."""

    capabilities = frozenset({Capability.GLOBAL_ORDER})
    limitations = {Capability.SESSIONS: "it has no transactions; use SQLite"}  # noqa: RUF012


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("T", number) for number in range(first, last + 1)]


async def contents(streams: Streams, stream: str) -> list[object]:
    return [event.data for event in (await streams.read(stream)).events]


@asynccontextmanager
async def task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that type checkers know to swallow no exception."""
    async with create_task_group() as tasks:
        yield tasks


async def test_nothing_is_seen_before_the_commit_and_all_after_it() -> None:
    store = TinyPages()
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
        assert store.commits == 0
    assert store.commits == 1
    everything = await store.read_all()
    assert [event.data for event in everything.events] == [1, 2, 3, 4]
    assert session.position == everything.position == 4


async def test_an_exception_commits_nothing() -> None:
    store = TinyPages()

    async def work() -> None:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            raise LookupError("no")

    with pytest.raises(LookupError):
        await work()
    assert store.commits == 0


async def test_a_cancellation_commits_nothing() -> None:
    store = TinyPages()
    with anyio.CancelScope() as scope:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            scope.cancel()
            await anyio.sleep(1)
    assert store.commits == 0


async def test_a_session_that_only_reads_commits_nothing() -> None:
    store = TinyPages()
    async with store.session() as session:
        assert not (await session.read("a")).exists
        await store.append("a", numbered(1, 1))
    assert store.commits == 1
    assert session.position is None


async def test_a_stream_stays_as_it_was_first_seen() -> None:
    store = TinyPages()
    await store.append("a", numbered(1, 3))
    async with store.session() as session:
        assert (await session.read("a", max_count=1)).version == 3
        await store.append("a", numbered(4, 6))
        assert await contents(session, "a") == [1, 2, 3]
        assert (await session.read("a", from_version=4)).events == []
        assert [e.data async for e in session.iterate("a", backwards=True)] == [3, 2, 1]
        folded = await session.aggregate("a", lambda total, event: total + event.data, int)
        assert (folded.state, folded.version) == (6, 3)
        assert not (await session.read("b")).exists
        await store.append("b", numbered(1, 1))
        read = await session.read("b")
        assert (read.events, read.version, read.exists) == ([], 0, False)


@pytest.mark.parametrize("how", ["read", "append", "iterate"])
async def test_a_stream_that_moved_is_a_conflict_and_nothing_is_written(how: str) -> None:
    store = TinyPages()
    await store.append("a", numbered(1, 1))

    async def work() -> None:
        async with store.session() as session:
            await session.append("b", numbered(1, 1))
            if how == "read":
                await session.read("a")
            elif how == "iterate":
                assert [event.version async for event in session.iterate("a")] == [1]
            else:
                await session.append("a", numbered(2, 2), expected=ANY)
            await store.append("a", numbered(7, 8))
            await session.append("a", numbered(3, 3), expected=STREAM_EXISTS)

    with pytest.raises(ConcurrencyError) as caught:
        await work()
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("a", 1, 3)
    assert await contents(store, "a") == [1, 7, 8]
    assert await contents(store, "b") == []


async def test_a_stream_that_is_only_read_may_move() -> None:
    store = TinyPages()
    async with store.session() as session:
        await session.read("a")
        await session.append("b", numbered(1, 1))
        await store.append("a", numbered(1, 1))
    assert await contents(store, "b") == [1]


@pytest.mark.parametrize(
    ("expected", "holds"),
    [(0, False), (NO_STREAM, False), (2, False), (3, True), (4, False), (ANY, True)],
)
async def test_expectations_are_about_the_stream_as_the_session_sees_it(
    expected: Expectation, holds: bool
) -> None:
    store = TinyPages()
    await store.append("a", numbered(1, 2))
    async with store.session() as session:
        await session.append("a", numbered(3, 3))
        for events in ([], numbered(4, 4)):
            if holds and not events:
                result = await session.append("a", events, expected=expected)
                assert (result.version, result.position, result.created) == (3, None, False)
                assert (await session.read("a", expected=expected)).version == 3
            elif not holds:
                with pytest.raises(ConcurrencyError) as caught:
                    await session.append("a", events, expected=expected)
                assert caught.value.actual == 3
                with pytest.raises(ConcurrencyError):
                    await session.read("a", expected=expected)
                with pytest.raises(ConcurrencyError):
                    await session.aggregate(
                        "a", lambda state, _: state, lambda: None, expected=expected
                    )
    assert await contents(store, "a") == [1, 2, 3]


async def test_an_empty_append_writes_nothing() -> None:
    store = OneStream()
    async with store.session() as session:
        result = await session.append("a", [], expected=NO_STREAM)
        assert (result.version, result.position, result.created) == (0, None, False)
        await session.append("b", numbered(1, 1))
        await session.append("c", [])
    assert len((await store.read_all()).events) == 1


async def test_an_earlier_try_is_found_in_the_store() -> None:
    store = TinyPages()
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
    assert store.commits == 3


async def test_an_earlier_try_is_found_in_the_session_itself() -> None:
    store = TinyPages()
    events = numbered(1, 3)
    async with store.session() as session:
        await session.append("a", events, expected=NO_STREAM)
        result = await session.append("a", events, expected=NO_STREAM)
        assert (result.version, result.position, result.created) == (3, None, True)
        assert result.deduplicated
    assert await contents(store, "a") == [1, 2, 3]


async def test_a_session_tried_again_after_a_lost_answer_writes_nothing_again() -> None:
    store = TinyPages()
    ids = [uuid4() for _ in range(2)]

    async def transfer(session: Session) -> list[bool]:
        first = await session.append("a", [NewEvent("T", 1, id=ids[0])], expected=NO_STREAM)
        second = await session.append("b", [NewEvent("T", 2, id=ids[1])], expected=NO_STREAM)
        return [first.deduplicated, second.deduplicated]

    assert await run_in_session(store, transfer) == [False, False]
    assert await run_in_session(store, transfer) == [True, True]
    assert (await store.read_all()).position == 2


async def test_sessions_one_in_another_are_rivals_like_any_others() -> None:
    store = TinyPages()

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


async def test_a_session_that_has_ended_does_nothing_more() -> None:
    store = TinyPages()
    async with store.session() as session:
        await session.append("a", numbered(1, 1))
        iteration = session.iterate("a")
        await anext(iteration)
    with pytest.raises(StoreClosedError, match="this session has ended: its block was left"):
        await session.append("a", numbered(2, 2))
    with pytest.raises(StoreClosedError):
        await session.append("a", [])
    with pytest.raises(StoreClosedError):
        await session.read("a")
    with pytest.raises(StoreClosedError):
        await session.aggregate("a", lambda state, _: state, lambda: None)
    assert await contents(store, "a") == [1]
    await iteration.aclose()


async def test_a_failed_session_has_ended_too() -> None:
    store = TinyPages()
    sessions: list[Session] = []

    async def work() -> None:
        async with store.session() as session:
            sessions.append(session)
            raise LookupError("no")

    with pytest.raises(LookupError):
        await work()
    with pytest.raises(StoreClosedError):
        await sessions[0].read("a")


class SlowToRead(TinyPages):
    """A store that shows the stream named "slow" when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        if stream == "slow":
            await self.go.wait()
        return await super()._read_stream(stream, first, last, max_count, backwards=backwards)


async def test_an_append_that_is_overtaken_by_the_block_s_end_is_refused() -> None:
    store = SlowToRead()
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
        store.go.set()
    assert len(errors) == 1
    assert (await store.read_all()).position == 1


async def test_tasks_that_share_a_session_lose_nothing() -> None:
    store = TinyPages(1)
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
    store = OneStream()

    async def work() -> None:
        async with store.session() as session:
            await session.append("a", numbered(1, 1))
            await session.read("b")
            await session.append("a", numbered(2, 2))
            await session.append("b", numbered(3, 3))

    with pytest.raises(NotSupportedError, match="no sessions: it has no transactions; use SQLite"):
        await work()
    assert (await store.read_all()).events == []
    async with store.session() as session:
        await session.append("a", numbered(1, 1))
        await session.append("a", numbered(2, 2))
    assert await contents(store, "a") == [1, 2]


async def test_bad_arguments_are_refused_at_the_append_and_spoil_nothing() -> None:
    store = TinyPages()
    async with store.session() as session:
        with pytest.raises(InvalidStreamNameError):
            await session.append("", numbered(1, 1))
        with pytest.raises(InvalidEventError):
            await session.append("a", [NewEvent("T", 1), NewEvent("T", {1, 2})])
        with pytest.raises(InvalidArgumentError):
            await session.append("a", numbered(1, 1), expected=-1)
        await session.append("a", numbered(1, 1))
    assert await contents(store, "a") == [1]


async def test_events_of_a_session_are_isolated() -> None:
    store = TinyPages()
    data, metadata = {"a": [1]}, {"m": [1]}
    async with store.session() as session:
        await session.append("a", [NewEvent("T", data, metadata)])
        data["a"].append(2)
        [own] = (await session.read("a")).events
        assert (own.data, own.metadata, own.position) == ({"a": [1]}, {"m": [1]}, 0)
        own.data["a"].append(3)
        own.metadata["m"].append(3)
    [stored] = (await store.read("a")).events
    assert (stored.data, stored.metadata) == ({"a": [1]}, {"m": [1]})


async def test_a_session_of_a_closed_store_is_refused() -> None:
    store = TinyPages()
    opened = store.session()
    session = await opened.__aenter__()
    await session.append("a", numbered(1, 1))
    await store.aclose()
    with pytest.raises(StoreClosedError):
        await opened.__aexit__(None, None, None)
    with pytest.raises(StoreClosedError):
        await store.session().__aenter__()


async def test_a_conflict_is_tried_again_until_it_is_none() -> None:
    store = TinyPages()
    tries: list[int] = []

    async def work(session: Session) -> str:
        version = (await session.read("a")).version
        tries.append(version)
        if len(tries) < 3:
            await store.append("a", numbered(0, 0))
        await session.append("a", numbered(1, 1), expected=version)
        return f"try {len(tries)}"

    assert await run_in_session(store, work) == "try 3"
    assert tries == [0, 1, 2]
    assert await contents(store, "a") == [0, 0, 1]


@pytest.mark.parametrize("attempts", [1, 2, 4])
async def test_the_last_conflict_is_raised(attempts: int) -> None:
    store = TinyPages()
    tries = 0

    async def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        await session.append("a", numbered(1, 1))
        await store.append("a", numbered(0, 0))

    with pytest.raises(ConcurrencyError):
        await run_in_session(store, work, attempts=attempts)
    assert tries == attempts
    assert await contents(store, "a") == [0] * attempts


async def test_other_errors_are_not_tried_again() -> None:
    tries = 0

    async def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        raise LookupError("no")

    with pytest.raises(LookupError):
        await run_in_session(TinyPages(), work)
    assert tries == 1
    with pytest.raises(InvalidArgumentError, match="attempts must be from 1"):
        await run_in_session(TinyPages(), work, attempts=0)
    assert tries == 1


async def test_many_tasks_that_try_again_all_succeed() -> None:
    store = TinyPages()
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
        store = TinyPages(size)
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

    monkeypatch.setattr("eventport.session.sleep", sleep)
    with pytest.raises(ConcurrencyError):
        await retry_conflicts(conflict, attempts=2000)
    assert len(pauses) == 1999
    assert 0.1 < max(pauses) < 0.5
