"""Copies keep their times, and what is appended after them is not earlier."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventport import CopiedEvent, EventStore, NewEvent, RecordedEvent

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@asynccontextmanager
async def opened(kind: str, tmp_path: Path) -> AsyncGenerator[EventStore]:
    if kind == "memory":
        async with MemoryEventStore() as memory:
            yield memory
        return
    async with await SQLiteEventStore.open(tmp_path / "copy.db") as sqlite:
        yield sqlite


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_comes_after_a_copy_of_the_future_is_not_earlier(
    tmp_path: Path, kind: str
) -> None:
    future = datetime.now(UTC) + timedelta(days=400)
    copied = CopiedEvent("E", 1, recorded_at=future)
    async with opened(kind, tmp_path) as store:
        await store.append("mixed", [copied, NewEvent("E", 2)])
        await store.append("after", [CopiedEvent("E", 1, recorded_at=future)])
        await store.append("after", [NewEvent("E", 2)])
        async with store.session() as session:
            await session.append("session", [CopiedEvent("E", 1, recorded_at=future)])
            await session.append("session", [NewEvent("E", 2)])
        for stream in ("mixed", "after", "session"):
            times = [event.recorded_at for event in (await store.read(stream)).events]
            assert times == [future, future]
        await store.append("other", [NewEvent("E", 1)])
        assert (await store.read("other")).events[0].recorded_at < future


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_copy_folds_to_the_same_state_at_a_time(tmp_path: Path, kind: str) -> None:
    start = datetime(2021, 3, 1, tzinfo=UTC)
    async with MemoryEventStore() as old, opened(kind, tmp_path) as new:
        for day in range(10):
            at = start + timedelta(days=day)
            await old.append("till-1", [CopiedEvent("Sold", day, recorded_at=at)])
        async for event in old.iterate_all():
            await new.append(event.stream, [CopiedEvent.of(event)], expected=event.version - 1)
        assert (await new.read("till-1")).events == (await old.read("till-1")).events
        for store in (old, new):
            sales = [
                event.data
                async for event in store.iterate("till-1")
                if event.recorded_at <= start + timedelta(days=4)
            ]
            assert sales == [0, 1, 2, 3, 4]


def test_a_copy_has_all_that_was_recorded() -> None:
    event = RecordedEvent(
        "s", 3, 9, "E", {"n": 1}, {"by": "me"}, NewEvent("E", 1).id, datetime.now(UTC)
    )
    copy = CopiedEvent.of(event)
    assert (copy.type, copy.data, copy.metadata, copy.id) == ("E", {"n": 1}, {"by": "me"}, event.id)
    assert copy.recorded_at == event.recorded_at
