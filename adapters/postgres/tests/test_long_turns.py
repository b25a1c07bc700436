"""Thousands of tasks leave turns of the event loop to others; idle subscriptions share reads."""

from __future__ import annotations

import asyncio

import pytest

from tests.turns import check_turns

from eventport import NewEvent
from eventport.adapter import AllPage, AllQuery

from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


APPENDS = 20


async def test_no_turn_does_the_work_of_thousands_of_appends(store: PostgresEventStore) -> None:
    await check_turns(store)


@pytest.mark.parametrize("count", [1, 64])
async def test_reads_do_not_grow_with_the_number_of_idle_subscriptions(
    store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Each append wakes them, and the server's sign of it may do so again: two reads at most."""
    read_all, reads = store.engine.read_all, list[AllQuery]()

    async def counted(query: AllQuery) -> AllPage:
        reads.append(query)
        return await read_all(query)

    monkeypatch.setattr(store.engine, "read_all", counted)
    seen: list[int] = []

    started: list[int] = []

    async def follow() -> None:
        async with store.subscribe() as subscription:
            waiting = asyncio.ensure_future(anext(subscription))
            await subscription.caught_up.wait()
            started.append(1)
            seen.append((await waiting).data)
            async for event in subscription:
                seen.append(event.data)  # as it comes
                if event.data == APPENDS:
                    return

    async with no_hang(), asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(follow())
        await until(lambda: len(started) == count, "all have caught up")
        await until(store._feed._pushed, "the server pushes")
        monkeypatch.setattr(store._feed, "interval", lambda _: 3600.0)
        await store.append("s", [NewEvent("T", 1)])  # ends a sleep with another interval
        await until(lambda: len(seen) == count, "all have seen it")
        reads.clear()
        for number in range(2, APPENDS + 1):
            await store.append("s", [NewEvent("T", number)])
            enough = count * number
            await until(lambda: len(seen) == enough, "all have seen it")  # noqa: B023  # at once
    assert len(reads) <= 2 * APPENDS
