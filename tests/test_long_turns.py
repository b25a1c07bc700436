"""Thousands of tasks that append at once leave turns of the event loop to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import anyio
import pytest

from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tests.turns import check_turns

from eventport import NewEvent, RecordedEvent
from eventport._concurrency.turnstile import Turnstile
from eventport.adapter import Store

from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.mark.parametrize("batching", ["never", "contended", "always"])
async def test_no_turn_does_the_work_of_thousands_of_appends(
    batching: Literal["always", "contended", "never"],
) -> None:
    async with Store(MemoryEngine(), batching=batching) as store:
        await check_turns(store)


@pytest.mark.parametrize("hooked", [False, True])
async def test_closing_waits_for_appends_that_wait_in_line(hooked: bool) -> None:
    store = MemoryEventStore()
    versions: list[int] = []
    called: list[int] = []
    seen: list[RecordedEvent] = []

    async def note(events: Sequence[RecordedEvent]) -> None:
        seen.extend(events)

    async def append(number: int) -> None:
        called.append(number)
        versions.append((await store.append("s", [NewEvent("T", None)])).version)

    async def close() -> None:
        while len(called) < 1_000:
            await checkpoint()
        await store.aclose()

    if hooked:
        store.after_commit(note)
    async with anyio.create_task_group() as tasks:
        for number in range(1_000):
            tasks.start_soon(append, number)
        tasks.start_soon(close)
    assert sorted(versions) == list(range(1, 1_001))
    assert len(seen) == 1_000 * hooked


async def test_one_that_is_cancelled_in_line_writes_nothing_and_holds_up_nobody() -> None:
    async with MemoryEventStore() as store:
        async with anyio.create_task_group() as tasks:
            for number in range(1_000):
                tasks.start_soon(append_unless_odd, store, number)
        events = (await store.read("s")).events
    numbers = Counter(event.data for event in events)
    assert all(numbers[number] == 1 for number in range(0, 1_000, 2))


async def append_unless_odd(store: MemoryEventStore, number: int) -> None:
    with anyio.CancelScope() as scope:
        if number % 2:
            scope.cancel()
        await store.append("s", [NewEvent("T", number)])


async def test_a_turnstile_lets_all_on_and_is_open_again_then() -> None:
    turnstile = Turnstile(2)
    passed: list[int] = []

    async def pass_(number: int) -> None:
        if not turnstile.may_pass():
            await turnstile.wait()
        passed.append(number)

    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for number in range(9):
                tasks.start_soon(pass_, number)
        assert sorted(passed) == list(range(9))
        passed.clear()
        await wait_all_tasks_blocked()
        assert turnstile.may_pass()
