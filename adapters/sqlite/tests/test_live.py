"""Proves that subscriptions see the commits of other stores, be they in another process."""

from __future__ import annotations

import asyncio
import statistics
import time

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from anyio import to_thread, wait_all_tasks_blocked

from eventport import ANY, NO_STREAM, ConcurrencyError, NewEvent, RecordedEvent

from eventport_conformance.scripts import Start
from eventport_conformance.waiting import no_hang
from eventport_sqlite import SQLiteEventStore


Go = Callable[..., None]


@pytest.mark.parametrize(("count", "pause"), [(100, 0.005), (10, 0.3)])
async def test_commits_of_another_process_arrive(
    path: Path, store: SQLiteEventStore, start: Start, go: Go, count: int, pause: float
) -> None:
    process = start("write_at_leisure.py", path, count, pause)
    arrived: list[int] = []
    async with no_hang(), store.subscribe() as subscription:
        await to_thread.run_sync(go, process)
        async for event in subscription:
            arrived.append(time.time_ns())
            assert event.data == len(arrived) - 1
            if len(arrived) == count:
                break
    output = await to_thread.run_sync(process.output)
    committed = map(int, output.split())
    delays = [(there - here) / 1e6 for here, there in zip(committed, arrived, strict=True)]
    print(  # noqa: T201  # for those who pass -s
        f"pause {pause * 1000:g} ms: median delay {statistics.median(delays):.1f} ms, "
        f"longest {max(delays):.1f} ms"
    )


async def test_several_stores_in_one_process_share_one_file(path: Path) -> None:
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(await SQLiteEventStore.open(path)) for _ in range(4)
        ]
        seen: list[list[RecordedEvent]] = [[] for _ in stores]

        async def tail(number: int) -> None:
            async with stores[number].subscribe() as subscription:
                async for event in subscription:
                    seen[number].append(event)
                    if len(seen[number]) == 4 * 50 * 2 + 25:
                        return

        async def write(number: int) -> int:
            won = 0
            for turn in range(50):
                await stores[number].append("shared", [NewEvent("Shared", turn)] * 1, expected=ANY)
                await stores[number].append(f"own-{number}", [NewEvent("Own", turn)], expected=turn)
                if turn % 2 == 0:
                    with suppress(ConcurrencyError):
                        await stores[number].append(
                            f"first-{turn}", [NewEvent("First", number)], expected=NO_STREAM
                        )
                        won += 1
            return won

        async with no_hang():
            tails = [asyncio.create_task(tail(number)) for number in range(4)]
            assert sum(await asyncio.gather(*map(write, range(4)))) == 25
            await asyncio.gather(*tails)
        assert seen[0] == seen[1] == seen[2] == seen[3]
        assert [event.position for event in seen[0]] == list(range(1, 426))
        assert (await stores[0].read("shared")).version == 200


async def test_a_store_that_closes_takes_nothing_from_another_on_the_same_file(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as stays:
        await stays.append("s", [NewEvent("First", None)])
        for version in range(1, 20):
            async with await SQLiteEventStore.open(path) as goes:
                assert (await goes.read("s")).version == version
                await stays.append("s", [NewEvent("More", None)], expected=version)
        assert len((await stays.read("s")).events) == 20


async def test_a_store_wakes_its_own_subscriptions(
    store: SQLiteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._feed, "interval", lambda _: None)  # nothing else wakes them
    async with no_hang(), store.subscribe() as subscription:
        for number in range(20):
            waiting = asyncio.create_task(anext(subscription))
            await subscription.caught_up.wait()
            await wait_all_tasks_blocked()
            await store.append("s", [NewEvent("Numbered", number)])
            assert (await waiting).data == number
