"""Proves that a lone append counts what was written to its stream while it waited for the lock."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from adapters.postgres.tests.server import bare_connection

from eventport import ANY, NO_STREAM, STREAM_EXISTS, ConcurrencyError, NewEvent
from eventport.expectations import Expectation

from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


@pytest.mark.parametrize(("expected", "written"), [
    (ANY, True), (STREAM_EXISTS, True), (1, True), (NO_STREAM, False), (2, False),
])  # fmt: skip
async def test_it_counts_what_came_before_it_and_after_its_snapshot(
    url: str,
    store: PostgresEventStore,
    admin: asyncpg.Connection,
    expected: Expectation,
    written: bool,  # it is a parameter of the test
) -> None:
    async def waits() -> bool:
        return bool(await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async def append_second() -> int:
        async with other.transaction():
            appended = await store.using(other).append(
                "s", [NewEvent("B", None)], expected=expected
            )
            return appended.version

    async with bare_connection(url) as first, bare_connection(url) as other, no_hang():
        async with first.transaction():
            await store.using(first).append("s", [NewEvent("A", None)])
            second = asyncio.create_task(append_second())
            await until(waits, "the second append waits for the lock of the stream")
        if written:
            assert await second == 2
        else:
            with pytest.raises(ConcurrencyError) as caught:
                await second
            assert caught.value.actual == 1
    types = [event.type for event in (await store.read("s")).events]
    assert types == ["A", "B"][: 1 + written]


async def test_a_lone_append_by_many_processes_wins_once(url: str, schema: str) -> None:
    stores = [await PostgresEventStore.connect(url, schema=schema) for _ in range(4)]
    versions: list[int] = []

    async def count_up(store: PostgresEventStore) -> None:
        for _ in range(40):
            try:
                head = (await store.read("s", max_count=1, backwards=True)).version
                versions.append(
                    (await store.append("s", [NewEvent("E", None)], expected=head)).version
                )
            except ConcurrencyError:
                pass

    async with no_hang():
        await asyncio.gather(*map(count_up, stores))
        last = (await stores[0].append("s", [NewEvent("E", None)], expected=ANY)).version
        events = (await stores[0].read("s")).events
    for store in stores:
        await store.aclose()
    assert sorted(versions) == list(range(1, last))
    assert [event.version for event in events] == list(range(1, last + 1))
    assert [event.position for event in events] == sorted(event.position for event in events)
    assert [event.recorded_at for event in events] == sorted(e.recorded_at for e in events)
