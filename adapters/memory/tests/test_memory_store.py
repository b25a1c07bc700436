"""Proves what is particular to the store in memory: one object, one loop, nothing shared."""

from __future__ import annotations

import tracemalloc

from contextlib import aclosing
from typing import Any

import anyio
import pytest

from eventport import (
    NO_STREAM,
    Capability,
    ConcurrencyError,
    ConfigurationError,
    NewEvent,
    RecordedEvent,
    StoreClosedError,
    connect,
    run_in_session,
)

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


def events(count: int, type_: str = "Stored") -> list[NewEvent]:
    return [NewEvent(type_, {"n": n}) for n in range(count)]


async def test_each_store_is_new_and_empty() -> None:
    async with connect("memory://") as one, connect("memory://") as other:
        await one.append("s", events(2))
        assert (await one.read("s")).version == 2
        assert (await other.read("s")).version == 0


@pytest.mark.parametrize("url", ["memory://name", "memory:///path", "memory://?x=1", "memory://#"])
async def test_a_url_that_says_more_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory"):
        async with connect(url):
            pass


async def test_it_says_what_it_cannot_do_and_what_can() -> None:
    store = MemoryEventStore()
    assert store.capabilities == {
        Capability.SESSIONS,
        Capability.GLOBAL_ORDER,
        Capability.GUARDS,
        Capability.CONDITIONS,
        Capability.TIMES,
        Capability.CATALOGUE,
    }
    for capability in set(Capability) - store.capabilities:
        reason = store.limitations[capability]
        assert "SQLite" in reason or "other processes" in reason


async def test_its_repr_tells_how_much_is_in_it() -> None:
    async with MemoryEventStore() as store:
        await store.append("a", events(2))
        await store.append("b", events(1))
        assert repr(store) == "<MemoryEventStore: 3 events in 2 streams>"


async def test_what_is_stored_cannot_be_changed_from_outside() -> None:
    data: dict[str, Any] = {"list": [1]}
    metadata: dict[str, Any] = {"by": ["me"]}
    committed: list[RecordedEvent] = []

    async def hook(recorded: Any) -> None:
        committed.extend(recorded)

    async with MemoryEventStore() as store:
        store.after_commit(hook)
        await store.append("s", [NewEvent("Stored", data, metadata)])
        data["list"].append(2)
        metadata["by"].clear()
        for changed in ((await store.read("s")).events[0], committed[0]):
            assert changed.data == {"list": [1]}
            assert changed.metadata == {"by": ["me"]}
            changed.data["list"].append(3)
            changed.metadata.clear()
        (event,) = (await store.read_all()).events
        assert (event.data, event.metadata) == ({"list": [1]}, {"by": ["me"]})


async def test_of_many_tasks_one_wins_each_stream() -> None:
    won: list[int] = []

    async def race(task: int) -> None:
        for number in range(50):
            try:
                await store.append(f"s-{number}", events(task + 1), expected=NO_STREAM)
            except ConcurrencyError as exc:
                lost.append((number, exc.actual))
            else:
                won.append(number)

    lost: list[tuple[int, int]] = []
    async with MemoryEventStore() as store:
        async with anyio.create_task_group() as tasks:
            for task in range(20):
                tasks.start_soon(race, task)
        assert sorted(won) == list(range(50))
        assert len(lost) == 19 * 50
        for number, actual in lost:
            assert (await store.read(f"s-{number}", max_count=0)).version == actual


async def test_sessions_that_conflict_are_run_again_until_all_are_in() -> None:
    async def transfer() -> None:
        async def move(session: Any) -> None:
            left = await session.read("left")
            await anyio.lowlevel.checkpoint()
            await session.append("left", [NewEvent("Moved", left.version)])
            await session.append("right", [NewEvent("Moved", left.version)])

        await run_in_session(store, move, attempts=100)

    async with MemoryEventStore() as store:
        with no_hang():
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(transfer)
        for stream in ("left", "right"):
            assert [e.data for e in (await store.read(stream)).events] == list(range(20))


async def test_a_subscription_that_never_polls_is_woken_by_each_commit() -> None:
    seen: list[int] = []

    async def tail(task_status: anyio.abc.TaskStatus[None]) -> None:
        async with store.subscribe(types=["Wanted"]) as subscription:
            task_status.started()
            async for event in subscription:
                seen.append(event.position)
                if len(seen) == 100:
                    return

    async with MemoryEventStore() as store:
        with no_hang():
            async with anyio.create_task_group() as tasks:
                await tasks.start(tail)
                for n in range(100):
                    await store.append("s", events(1, "Wanted"))
                    await store.append("s", events(2, "Other"))
                    if n % 10 == 0:
                        await anyio.sleep(0.001)  # let it fall asleep
        assert seen == list(range(1, 300, 3))


async def test_a_rare_filter_leaves_turns_to_others() -> None:
    async with MemoryEventStore() as store:
        for _ in range(60):
            await store.append("s", events(1_000))
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await anyio.lowlevel.checkpoint()
            before = turns
            result = await store.read_all(types=["Never"])
            assert (result.events, result.position) == ([], 60_000)
            assert turns - before >= 3
            tasks.cancel_scope.cancel()


async def test_a_pass_over_many_events_takes_little_memory() -> None:
    async with MemoryEventStore() as store:
        for _ in range(50):
            await store.append("s", events(1_000))
        tracemalloc.start()
        try:
            count = (await store.aggregate("s", lambda state, _: state + 1, int)).state
            async with aclosing(store.iterate("s", backwards=True)) as found:
                async for _ in found:
                    count += 1
            async with aclosing(store.iterate_all()) as found:
                async for _ in found:
                    count += 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert count == 3 * 50_000
        assert peak < 4 * 1024**2  # all of the events at once take twenty times as much


async def test_nothing_works_after_closing() -> None:
    store = MemoryEventStore()
    await store.append("s", events(1))
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreClosedError):
        await store.append("s", events(1))
    with pytest.raises(StoreClosedError):
        await store.append("s", [])
    with pytest.raises(StoreClosedError):
        await store.read("s")
    with pytest.raises(StoreClosedError):
        await store.read_all()
    with pytest.raises(StoreClosedError):
        await store.aggregate("s", lambda state, _: state, lambda: None)
    with pytest.raises(StoreClosedError):
        await anext(store.iterate("s"))
    with pytest.raises(StoreClosedError):
        await anext(store.iterate_all())
    with pytest.raises(StoreClosedError):
        async with store.session():
            pass
    with pytest.raises(StoreClosedError):
        async with store.subscribe():
            pass


async def test_closing_wakes_a_subscription_that_waits() -> None:
    store = MemoryEventStore()
    refused = anyio.Event()

    async def tail(task_status: anyio.abc.TaskStatus[None]) -> None:
        async with store.subscribe() as subscription:
            task_status.started()
            with pytest.raises(StoreClosedError):
                await anext(subscription)
            refused.set()

    with no_hang():
        async with anyio.create_task_group() as tasks:
            await tasks.start(tail)
            await anyio.sleep(0.01)
            await store.aclose()
    assert refused.is_set()
