"""Whatever a server leaves unanswered, calls end in time, and hold nobody else up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from adapters.eventstoredb.tests.at_servers import numbered
from adapters.eventstoredb.tests.double.state import Double

from eventport import (
    NO_STREAM,
    ConcurrencyError,
    NewEvent,
    StoreUnavailableError,
)

from eventport_conformance.dropping import in_the_end
from eventport_conformance.waiting import HANG_SECONDS, until
from eventport_eventstoredb import EventStoreDBEventStore


async def test_a_read_ends_although_the_server_does_not_answer(server: Double) -> None:
    async with await EventStoreDBEventStore.connect(server.uri, timeout=1.5) as store:
        server.frozen.add("*")
        with pytest.raises(StoreUnavailableError):
            await store.read("a")
        with pytest.raises(StoreUnavailableError):
            await store.read_all()
        with pytest.raises(StoreUnavailableError, match="not known"):
            await store.append("a", numbered(1), expected=3)
        server.frozen.clear()
        again = partial(store.append, "a", numbered(1), expected=NO_STREAM)
        # On a busy machine, the timeout may pass although the server answers.
        assert (await in_the_end("append", again)).version == 1


async def test_an_append_that_is_not_answered_holds_up_no_other(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    server.frozen.add("Read")
    waiting = asyncio.create_task(on_server.append("a", numbered(1), expected=5))
    await asyncio.sleep(0)
    for number in range(5):
        await on_server.append("b", numbered(1), expected=number)
        await on_server.append(f"c{number}", numbered(1))
    assert not waiting.done()
    server.frozen.clear()
    with pytest.raises(ConcurrencyError):
        await waiting


async def test_the_same_append_from_two_stores_holds_up_no_other(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    server.held.add("a")
    server.commit_timeout = 1
    events = numbered(3)
    async with await EventStoreDBEventStore.connect(server.uri, timeout=20) as other:
        engine: Any = on_server._engine
        channel = engine._client._calls.channel
        both = [
            asyncio.create_task(store.append("a", events, expected=NO_STREAM))
            for store in (other, on_server)
        ]
        await until(lambda: bool(server.in_flight), "one is sent")
        await on_server.append("b", numbered(1))
        assert not any(task.done() for task in both)
        server.held.clear()
        results = await asyncio.gather(*both)
        assert [result.version for result in results] == [3, 3]
        assert engine._client._calls.channel is channel
    assert (await on_server.read("a")).version == 3


def test_a_program_ends_that_leaves_a_subscription_open() -> None:
    program = """
        import asyncio
        from adapters.eventstoredb.tests.double.server import serve
        from adapters.eventstoredb.tests.double.state import Double
        from eventport import NewEvent
        from eventport_eventstoredb import EventStoreDBEventStore

        async def main():
            served = serve(Double(version="23.10"))
            double = await served.__aenter__()
            store = await EventStoreDBEventStore.connect(double.uri)
            await store.append("a", [NewEvent("A", 1)])
            opened = store.subscribe()
            subscription = await opened.__aenter__()
            print((await anext(subscription)).data, flush=True)
            await asyncio.sleep(0.5)  # the listener is at work by then

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.stdout == b"1\n", done.stderr.decode()


async def test_storms_of_cancelled_calls_leave_the_store_usable(
    server: Double, on_server: EventStoreDBEventStore
) -> None:
    await on_server.append("a", [NewEvent("A", "x" * 2000) for _ in range(200)])
    for number in range(120):
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: on_server.read("a"),
            lambda: on_server.read_all(max_count=150),
            lambda: on_server.append("b", numbered(1)),
            lambda: on_server.read("a", max_count=1, backwards=True),
        ]
        tasks = [asyncio.create_task(call()) for call in calls[: number % 4 + 1]]
        for _ in range(number % 7 + 1):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if number % 3 == 0:
            await asyncio.wait(tasks)
        if number % 10 == 9:
            assert (await on_server.read("a", max_count=1)).version == 200
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
