"""Lists of streams: what an engine is asked for, and what it is spared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eventport import NewEvent, StreamInfo
from eventport.adapter import NameQuery, Store, end_of_prefix
from eventport.catalogue import category_of, count_streams

from eventport_memory.engine import MemoryEngine


class Counting(MemoryEngine):
    """Counts the streams that it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = self.given = 0

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        found = await super().list_streams(query)
        self.pages, self.given = self.pages + 1, self.given + len(found)
        return found


async def test_other_categories_are_passed_over() -> None:
    engine = Counting()
    async with Store(engine, batching="never") as store:
        for number in range(500):
            await store.append(f"order-item-{number}", [NewEvent("Happened", 1)])
        for name in ("order-1", "order-x", "order-zz-1"):
            await store.append(name, [NewEvent("Happened", 1)])
        found = await store.streams(category="order", max_count=10)
        assert [one.stream for one in found] == ["order-1", "order-x"]
        assert engine.given <= 30


async def test_no_more_is_fetched_than_asked_for() -> None:
    engine = Counting()
    async with Store(engine, batching="never") as store:
        for number in range(20):
            await store.append(f"s-{number}", [NewEvent("Happened", 1)])
        await store.streams(max_count=3)
        assert engine.given == 3
        pages = engine.pages
        assert await store.streams(max_count=0) == []
        assert await store.streams(prefix="a", category="b") == []
        assert engine.pages == pages


async def test_totals_by_category() -> None:
    async with Store(MemoryEngine(), batching="never") as store:
        for name in ("a-1", "a-2", "a-2", "b", "eventport/x"):
            await store.append(name, [NewEvent("eventport.Noted", 1)])
        totals = await count_streams(store)
        assert (totals.streams, totals.events) == (3, 4)
        assert totals.categories == {"a": (2, 3), "": (1, 1)}
        toolkit = await count_streams(store, prefix="eventport/")
        assert (toolkit.streams, toolkit.events) == (1, 1)


@pytest.mark.parametrize(
    ("stream", "category"),
    [
        ("order-7", "order"),
        ("order-item-7", "order-item"),
        ("order-550e8400-e29b-41d4-a716-446655440000", "order"),
        ("order-item-550E8400-E29B-41D4-A716-446655440000", "order-item"),
        ("order-x550e8400-e29b-41d4-a716-446655440000", "order-x550e8400-e29b-41d4-a716"),
        ("order-", "order"),
        ("-7", ""),
        ("order", ""),
        ("550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716"),
    ],
)
def test_the_category_is_what_comes_before_the_id(stream: str, category: str) -> None:
    assert category_of(stream) == category


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("order-", "order."),
        ("\ud7ff", "\ue000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("", None),
    ],
)
def test_the_end_of_a_prefix(prefix: str, end: str | None) -> None:
    assert end_of_prefix(prefix) == end
