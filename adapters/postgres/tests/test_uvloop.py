"""Proves that a store does the same on uvloop, also when calls are cancelled."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from eventport import ConcurrencyError, NewEvent

from eventport_conformance.waiting import HANG_SECONDS
from eventport_postgres import PostgresEventStore


TASKS = 16
EACH = 20


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def test_appends_of_many_tasks_are_all_followed(store: PostgresEventStore) -> None:
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")

    async def write(task: int) -> None:
        for number in range(EACH):
            await store.append(f"s-{task % 3}", [NewEvent("E", [task, number])])

    seen: list[list[int]] = []
    async with asyncio.timeout(HANG_SECONDS), store.subscribe() as subscription:
        async with asyncio.TaskGroup() as tasks:
            for task in range(TASKS):
                tasks.create_task(write(task))
        while len(seen) < TASKS * EACH:
            event = await anext(subscription)
            seen.append(event.data)
    assert len({tuple(one) for one in seen}) == TASKS * EACH
    with pytest.raises(ConcurrencyError):
        await store.append("s-0", [NewEvent("E", None)], expected=0)


async def test_nothing_is_written_after_a_cancelled_append_has_ended(
    url: str, schema: str, admin: asyncpg.Connection, store: PostgresEventStore
) -> None:
    chosen = random.Random(7)
    count = f'SELECT count(*) FROM "{schema}".events'
    written = 0
    for _ in range(20):
        appending = asyncio.create_task(store.append("s", [NewEvent("E", None)]))
        for _ in range(chosen.randrange(6)):
            await asyncio.sleep(0)
        await asyncio.sleep(chosen.choice([0, 0.001, 0.003]))
        appending.cancel()
        await asyncio.wait([appending], timeout=HANG_SECONDS)
        assert appending.done()
        written = await admin.fetchval(count)
        assert (await store.read("s")).version == written
        if not appending.cancelled():
            assert appending.result().version == written
    assert (await store.append("s", [NewEvent("E", None)])).version == written + 1
