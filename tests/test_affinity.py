"""A store that is used in another event loop or process than its own says so."""

from __future__ import annotations

import asyncio
import os
import sys

from collections.abc import Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest
import trio

from eventport import EventStore, NewEvent, StoreClosedError, WrongEventLoopError

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.usefixtures("in_time")

Use = Callable[[EventStore], Coroutine[Any, Any, object]]


async def append(store: EventStore) -> object:
    return await store.append("s", [NewEvent("E", 1)])


async def append_nothing(store: EventStore) -> object:
    return await store.append("s", [])


async def read(store: EventStore) -> object:
    return await store.read("s")


async def iterate(store: EventStore) -> object:
    return [event async for event in store.iterate("s")]


async def read_all(store: EventStore) -> object:
    return await store.read_all()


async def session(store: EventStore) -> object:
    async with store.session() as unit:
        return await unit.read("s")


async def subscribe(store: EventStore) -> object:
    async with store.subscribe() as subscription:
        return await anext(subscription)


async def close(store: EventStore) -> object:
    await store.aclose()
    return None


USES = [append, append_nothing, read, iterate, read_all, session, subscribe, close]


async def opened() -> MemoryEventStore:
    store = MemoryEventStore()
    await store.append("s", [NewEvent("E", 0)])
    return store


@pytest.mark.parametrize("use", USES)
def test_another_loop_is_refused(use: Use) -> None:
    store = asyncio.run(opened())
    with pytest.raises(WrongEventLoopError, match="another event loop: open a store in each"):
        asyncio.run(use(store))


@pytest.mark.parametrize("use", USES)
def test_another_loop_of_trio_is_refused(use: Use) -> None:
    store = trio.run(opened)
    with pytest.raises(WrongEventLoopError, match="another event loop"):
        trio.run(use, store)


def test_a_loop_of_the_other_kind_is_refused() -> None:
    with pytest.raises(WrongEventLoopError, match="another event loop"):
        trio.run(read, asyncio.run(opened()))
    with pytest.raises(WrongEventLoopError, match="another event loop"):
        asyncio.run(read(trio.run(opened)))


async def test_another_thread_is_refused_and_the_own_one_goes_on() -> None:
    store = await opened()

    def elsewhere() -> None:
        with pytest.raises(WrongEventLoopError, match="another event loop"):
            anyio.run(read, store)

    await anyio.to_thread.run_sync(elsewhere)
    assert (await store.read("s")).version == 1


async def test_a_subscription_of_another_loop_hands_out_nothing() -> None:
    store = await opened()
    await store.append("s", [NewEvent("E", 1)])
    async with store.subscribe() as subscription:
        await anext(subscription)  # the second one has been fetched with it

        def elsewhere() -> None:
            with pytest.raises(WrongEventLoopError):
                anyio.run(subscription.__anext__)

        await anyio.to_thread.run_sync(elsewhere)
        assert (await anext(subscription)).version == 2


def test_a_closed_store_says_that_it_is_closed() -> None:
    async def used() -> MemoryEventStore:
        store = await opened()
        await store.aclose()
        return store

    store = asyncio.run(used())
    asyncio.run(store.aclose())
    with pytest.raises(StoreClosedError):
        asyncio.run(read(store))


def test_a_store_made_outside_belongs_to_the_first_loop_that_uses_it() -> None:
    store = MemoryEventStore()
    asyncio.run(append(store))
    with pytest.raises(WrongEventLoopError):
        asyncio.run(append(store))


def in_child(work: Callable[[], str]) -> str:
    """Return what a forked child says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def parent() -> Generator[asyncio.AbstractEventLoop, None, None]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("use", USES)
def test_a_forked_child_is_refused(use: Use, parent: asyncio.AbstractEventLoop) -> None:
    store = parent.run_until_complete(opened())

    def work() -> str:
        run: Callable[[Any], object]
        for run in (parent.run_until_complete, asyncio.run):
            try:
                run(use(store))
            except WrongEventLoopError as exc:
                said.append(str(exc))
        return " and ".join(said)

    said: list[str] = []
    assert in_child(work).count("process that forked this one: open a store in each") == 2
    assert parent.run_until_complete(store.read("s")).version == 1
