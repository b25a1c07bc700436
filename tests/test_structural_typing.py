"""The port is a protocol: a class by hand does what the adapters do, for the same callers.

That type checkers see it so is proven by checking `tests/typing`, not by running it.
"""

from __future__ import annotations

import runpy

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventport import ConcurrencyError, EventStore, NewEvent, StoreClosedError, run_in_session

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


pytestmark = pytest.mark.usefixtures("in_time")

Make: TypeAlias = Callable[[], Awaitable[EventStore]]

HERE = Path(__file__).parent / "typing"
accepted: dict[str, Any] = runpy.run_path(str(HERE / "accepted.py"))
handwritten: dict[str, Any] = runpy.run_path(str(HERE / "handwritten.py"))


async def by_hand() -> EventStore:
    store: EventStore = handwritten["open_notebook"]()
    return store


async def in_memory() -> EventStore:
    return MemoryEventStore()


async def in_sqlite() -> EventStore:
    return await SQLiteEventStore.open(":memory:")


on_each_store = pytest.mark.parametrize(
    ("anyio_backend", "make"),
    [
        ("asyncio", by_hand),
        ("trio", by_hand),
        ("asyncio", in_memory),
        ("trio", in_memory),
        ("asyncio", in_sqlite),
    ],
)


@on_each_store
async def test_what_type_checkers_accept_runs(make: Make) -> None:
    store = await make()
    assert await accepted["use"](store) == 6
    with pytest.raises(StoreClosedError):
        await store.read("a")


@on_each_store
async def test_what_is_built_on_the_port_works_with_any_store(make: Make) -> None:
    store = await make()
    tries = 0

    async def transfer(session: Any) -> int:
        nonlocal tries
        tries += 1
        version: int = (await session.read("a")).version
        if tries == 1:
            await store.append("a", [NewEvent("T", 0)])
        await session.append("a", [NewEvent("T", 1)])
        await session.append("b", [NewEvent("T", 2)], expected="no_stream")
        return version

    async with store:
        assert await run_in_session(store, transfer) == 1
        assert (await store.read("a")).version == 2
        with pytest.raises(ConcurrencyError):
            await store.append("b", [NewEvent("T", 1)], expected=0)
        assert [event.stream async for event in store.iterate_all()] == ["a", "a", "b"]
