"""Proves that pages are bounded by bytes, whatever the number of their events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from eventport import NewEvent, RecordedEvent
from eventport.adapter import AllQuery, StreamQuery

from eventport_postgres import PostgresEventStore, reading


SIZES = [10, reading.PAGE_BYTES + 1, *[reading.PAGE_BYTES // 4] * 9, 10, 10]


async def append(store: PostgresEventStore) -> None:
    for number, size in enumerate(SIZES):
        data = bytes(size) if number % 2 else "é" * (size // 2)
        await store.append("s", [NewEvent("E", data)])


async def sizes(events: AsyncIterator[RecordedEvent]) -> list[int]:
    return [len(event.data) * (1 if type(event.data) is bytes else 2) async for event in events]


def size_of(page: list[RecordedEvent]) -> int:
    return sum(len(e.data if type(e.data) is bytes else e.data.encode()) for e in page)


async def test_pages_of_a_stream(store: PostgresEventStore) -> None:
    await append(store)
    for backwards in (False, True):
        expected = SIZES[::-1] if backwards else SIZES
        assert await sizes(store.iterate("s", backwards=backwards)) == expected
        query = StreamQuery("s", last=100, max_count=500, backwards=backwards)
        page = await store._postgres.read_stream(query)
        assert 1 < len(page.events) < len(SIZES)
        # All but the last event of a page fit in.
        assert size_of(list(page.events)[:-1]) < reading.PAGE_BYTES <= size_of(list(page.events))
    assert len((await store.read("s", from_version=2)).events) == len(SIZES) - 1
    assert len((await store.read("s")).events) == len(SIZES)


async def test_pages_of_all_streams(store: PostgresEventStore) -> None:
    await append(store)
    for types, prefix in ((None, None), (frozenset({"E"}), "s")):
        page = await store._postgres.read_all(AllQuery(0, 500, types, prefix))
        assert len(page.events) == 2
        assert page.position == page.events[-1].position < page.head
        page = await store._postgres.read_all(AllQuery(page.position, 500, types, prefix))
        assert len(page.events) == 4
    assert await sizes(store.iterate_all()) == SIZES
    assert len((await store.read_all(types=["E"])).events) == len(SIZES)
    async with store.subscribe(prefix="s") as subscription:
        assert [(await anext(subscription)).version for _ in SIZES] == list(
            range(1, len(SIZES) + 1)
        )
