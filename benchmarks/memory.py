"""Memory: there is no driver below, so the figures stand for themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from benchmarks.measure import MANY, Figure, rates

from eventport import NewEvent

from eventport_memory import MemoryEventStore


DATA: Final = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}


async def figures(_: Path) -> AsyncIterator[Figure]:
    """Measure all that has a goal in memory."""
    for size in (1, 10):
        yield await append(size)
    yield await growth()


async def append(size: int) -> Figure:
    """Append events that have been made before, so many at a time."""
    store, rounds, appends = MemoryEventStore(), 9, 20_000 // size
    ready = [
        [[NewEvent("ItemAdded", DATA) for _ in range(size)] for _ in range(appends)]
        for _ in range(rounds)
    ]

    async def ours(number: int) -> int:
        for index, events in enumerate(ready[number]):
            await store.append(f"order-{number}-{index}", events)
        return appends * size

    (seen,) = await rates([ours], rounds)
    return Figure(f"memory, one task, append {size}, events", seen, None, 200_000)


async def growth() -> Figure:
    """Append to a store of a million events, against one of a thousand."""
    stores = {"large": MemoryEventStore(), "small": MemoryEventStore()}
    for name, streams in (("large", MANY // 100), ("small", 10)):
        for index in range(streams):
            events = [NewEvent("ItemAdded", DATA) for _ in range(100)]
            await stores[name].append(f"filled-{index}", events)

    async def to(name: str, number: int) -> int:
        for index in range(5_000):
            await stores[name].append(f"order-{number}-{index}", [NewEvent("ItemAdded", DATA)])
        return 5_000

    large, small = await rates(
        [lambda number: to("large", number), lambda number: to("small", number)], rounds=9
    )
    return Figure(f"memory, append at {MANY:,} events / at 1,000", large, small, 0.8)
