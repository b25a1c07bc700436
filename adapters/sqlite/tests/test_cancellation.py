"""Proves that a call cancelled at any await leaves all or nothing, no lock, and no thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import types

from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from anyio import CancelScope, create_task_group, wait_all_tasks_blocked

from eventport import NewEvent
from eventport.projections import ProjectionId

from eventport_conformance.waiting import HANG_SECONDS
from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.projections import SQLiteCheckpoints


T = TypeVar("T")

Query = Callable[..., list[tuple[object, ...]]]
Cancelled: TypeAlias = Callable[[Callable[[], Awaitable[Any]], int], Awaitable[bool]]
"""Runs something, cancels it at its k-th await, and tells whether it came to its end before."""

ENOUGH = 100


@types.coroutine
def drive(
    awaitable: Awaitable[T], k: int, cancel: Callable[[], object]
) -> Generator[Any, Any, tuple[T, bool]]:
    """Await something, and cancel the task that does it when it suspends for the k-th time."""
    inner = awaitable.__await__()
    suspended = 0
    error: BaseException | None = None
    while True:
        try:
            waited_for = inner.send(None) if error is None else inner.throw(error)
        except StopIteration as stop:
            return stop.value, suspended <= k
        if suspended == k:
            cancel()
        suspended += 1
        try:
            yield waited_for
        except BaseException as exc:  # noqa: BLE001  # it goes where it was going
            error = exc
        else:
            error = None


async def by_task(function: Callable[[], Awaitable[Any]], k: int) -> bool:
    """Cancel as asyncio does, by `Task.cancel`."""

    async def run() -> bool:
        task = asyncio.current_task()
        assert task is not None
        _, untouched = await drive(function(), k, task.cancel)
        return untouched

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    return not task.cancelled() and task.result()


async def by_scope(function: Callable[[], Awaitable[Any]], k: int) -> bool:
    """Cancel as anyio does, by a scope, which cancels every later await as well."""
    with CancelScope() as scope:
        _, untouched = await drive(function(), k, scope.cancel)
        return untouched
    return False


@pytest.fixture(params=[by_task, by_scope])
def cancelled(request: pytest.FixtureRequest) -> Cancelled:
    cancelled_: Cancelled = request.param
    return cancelled_


def events(count: int) -> list[NewEvent]:
    return [NewEvent("Cancelled", index) for index in range(count)]


async def check_usable(store: SQLiteEventStore, query: Query) -> None:
    """See from outside that nobody is in a transaction, and from inside that all goes on."""
    query("BEGIN IMMEDIATE")  # it does not wait; closing the connection rolls it back
    before = (await store.read("usable")).version
    result = await store.append("usable", events(1), expected=before)
    assert (await store.read("usable")).version == result.version == before + 1


def check_threads(before: list[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - set(before):
        thread.join(HANG_SECONDS)  # it may still be about to return from its last function
        assert not thread.is_alive()


async def test_append(store: SQLiteEventStore, query: Query, cancelled: Cancelled) -> None:
    head = 0
    for k in range(ENOUGH):
        ended = await cancelled(lambda: store.append("stream", events(3)), k)
        version = (await store.read("stream")).version
        assert version in {head, head + 3}
        head = version
        await check_usable(store, query)
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k > 0
    assert head > 0


async def test_append_that_waits_for_its_turn(
    store: SQLiteEventStore, query: Query, cancelled: Cancelled
) -> None:
    for k in range(ENOUGH):
        first = asyncio.create_task(store.append(f"first-{k}", events(2)))
        await asyncio.sleep(0)
        ended = await cancelled(partial(store.append, f"second-{k}", events(2)), k)
        last = await store.append(f"third-{k}", events(2))
        assert (await first).version == last.version == 2
        assert (await store.read(f"second-{k}")).version in {0, 2}
        await check_usable(store, query)
        if ended:
            break
    else:
        pytest.fail("it never came to its end")


async def test_session(store: SQLiteEventStore, query: Query, cancelled: Cancelled) -> None:
    async def commit() -> None:
        async with store.session() as session:
            await session.read("left")
            await session.append("left", events(2))
            await session.append("right", events(3))

    commits = 0
    for k in range(ENOUGH):
        ended = await cancelled(commit, k)
        left, right = (await store.read("left")).version, (await store.read("right")).version
        assert (left, right) in {(commits * 2, commits * 3), (commits * 2 + 2, commits * 3 + 3)}
        commits = left // 2
        await check_usable(store, query)
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k >= 3


READS: dict[str, Callable[[SQLiteEventStore], Awaitable[object]]] = {}


def reading(function: Callable[[SQLiteEventStore], Awaitable[object]]) -> None:
    READS[function.__name__] = function


@reading
async def read(store: SQLiteEventStore) -> None:
    assert len((await store.read("old")).events) == 1200


@reading
async def read_all(store: SQLiteEventStore) -> None:
    assert len((await store.read_all()).events) == 1000


@reading
async def iterate(store: SQLiteEventStore) -> None:
    async with aclosing(store.iterate("old")) as found:
        assert len([event async for event in found]) == 1200


@reading
async def iterate_all(store: SQLiteEventStore) -> None:
    async with aclosing(store.iterate_all(prefix="old")) as found:
        assert len([event async for event in found]) == 1200


@reading
async def aggregate(store: SQLiteEventStore) -> None:
    assert (await store.aggregate("old", lambda count, _: count + 1, int)).state == 1200


@reading
async def subscribe(store: SQLiteEventStore) -> None:
    async with store.subscribe() as subscription:
        count = 0
        async for _ in subscription:
            count += 1
            if count == 1200:
                break


@pytest.mark.parametrize("name", READS)
async def test_reads(
    store: SQLiteEventStore, query: Query, cancelled: Cancelled, name: str
) -> None:
    await store.append("old", events(1200))
    for k in range(ENOUGH):
        ended = await cancelled(lambda: READS[name](store), k)
        await check_usable(store, query)
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k > 0


async def test_subscription_that_is_cancelled_while_it_waits_goes_on_where_it_was(
    store: SQLiteEventStore, cancelled: Cancelled
) -> None:
    async with store.subscribe() as subscription:
        for number in range(4):
            if number % 2:  # there is nothing yet
                assert not await cancelled(subscription.__anext__, 0)
            else:
                async with create_task_group() as tasks:
                    tasks.start_soon(subscription.__anext__)
                    await wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
            result = await store.append("stream", events(2))
            first = await anext(subscription)
            second = await anext(subscription)
            assert (first.version, second.version) == (result.version - 1, result.version)
            assert subscription.position == second.position


async def test_open(path: Path, query: Query, cancelled: Cancelled) -> None:
    before = threading.enumerate()
    for k in range(ENOUGH):
        opened: list[SQLiteEventStore] = []

        async def open_(opened: list[SQLiteEventStore] = opened) -> None:
            opened.append(await SQLiteEventStore.open(path))

        ended = await cancelled(open_, k)
        for store in opened:
            await check_usable(store, query)
            await store.aclose()
        check_threads(before)
        if ended:
            break
    else:
        pytest.fail("it never came to its end")
    assert k > 0


async def test_aclose(path: Path, query: Query, cancelled: Cancelled) -> None:
    before = threading.enumerate()
    for k in range(ENOUGH):
        async with await SQLiteEventStore.open(path) as store:
            pending = asyncio.create_task(store.append("pending", events(1)))
            await asyncio.sleep(0)
            ended = await cancelled(store.aclose, k)
            assert (await pending).version == k + 1
            await store.aclose()
            check_threads(before)
            query("BEGIN IMMEDIATE")
            if ended:
                break
    else:
        pytest.fail("it never came to its end")
    assert k > 0


async def test_any_moment_of_many_appends_at_once(store: SQLiteEventStore, query: Query) -> None:
    """Cancel after k turns of the event loop, wherever the tasks then are."""
    known: dict[str, int] = {}
    for turns in range(40):
        tasks = {
            f"{turns}-{index}": asyncio.create_task(store.append(f"{turns}-{index}", events(2)))
            for index in range(8)
        }
        for _ in range(turns):
            await asyncio.sleep(0)
        for name, task in tasks.items():
            if int(name[-1]) % 2:
                task.cancel()
        await asyncio.wait(tasks.values())
        for name, task in tasks.items():
            head = (await store.read(name)).version
            assert head in {0, 2}
            if not task.cancelled():
                assert task.result().version == head == 2
            known[name] = head
        query("BEGIN IMMEDIATE")
    await check_usable(store, query)
    assert {0, 2} <= set(known.values()), "the cancellations came all too early or all too late"


async def begun(store: SQLiteEventStore, count: int) -> list[asyncio.Task[object]]:
    """Begin appends of which the first has reached the writer's thread."""
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(store.append(f"s{index}", events(2))) for index in range(count)
    ]
    await asyncio.sleep(0.2)  # it need not wait for the lock by then, but mostly does
    return tasks


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]], ids=str)
async def test_appends_that_wait_for_a_lock_are_given_up_at_once(
    path: Path, order: list[int]
) -> None:
    async with await SQLiteEventStore.open(path, busy_timeout=3600) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            tasks = await begun(store, 5)
            for index in order:
                tasks[index].cancel()
            # The first is alone in the thread, the second a batch, and the rest is queued.
            done, pending = await asyncio.wait(tasks, timeout=HANG_SECONDS)
            assert len(done) == 5
            assert not pending
            assert all(task.cancelled() for task in tasks)
            holder.execute("ROLLBACK")
        result = await store.append("after", events(1))
        assert (result.version, (await store.read_all()).position) == (1, 1)


async def test_one_that_stays_is_written_whatever_the_others_do(path: Path) -> None:
    async with await SQLiteEventStore.open(path, busy_timeout=3600) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            tasks = await begun(store, 5)
            for index in (0, 1, 3):
                tasks[index].cancel()
            holder.execute("ROLLBACK")
        await asyncio.wait(tasks, timeout=HANG_SECONDS)
        assert [task.cancelled() for task in tasks] == [True, True, False, True, False]
        heads = [(await store.read(f"s{index}")).version for index in range(5)]
        assert heads[2] == heads[4] == 2
        assert set(heads) <= {0, 2}


async def test_reads_that_nobody_waits_for_are_not_done(store: SQLiteEventStore) -> None:
    await store.append("s", events(3))
    hold, held, done = threading.Event(), threading.Event(), list[int]()

    def block(_: object) -> None:
        held.set()
        hold.wait(HANG_SECONDS)

    blocking = asyncio.create_task(store._sqlite._reader.run(block))
    await asyncio.to_thread(held.wait, HANG_SECONDS)
    impatient = [
        asyncio.create_task(store._sqlite._reader.run(lambda _: done.append(1))) for _ in "abc"
    ]
    await asyncio.sleep(0)
    for task in impatient:
        task.cancel()
    await asyncio.wait(impatient)
    patient = asyncio.create_task(store.read("s"))
    hold.set()
    assert (await patient).version == 3
    await blocking
    assert not done


async def test_checkpoints_that_wait_for_a_lock_are_given_up_at_once(path: Path) -> None:
    async with SQLiteCheckpoints.open(path, busy_timeout=3600) as checkpoints:

        async def work() -> None:
            await checkpoints.activate(ProjectionId("p", 1))

        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(work())
            await asyncio.sleep(0.2)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=HANG_SECONDS)
            assert done
            holder.execute("ROLLBACK")
        await work()
