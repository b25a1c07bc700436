"""A store that is used where it does not belong says so: a forked child, another event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventport import NewEvent, WrongEventLoopError
from eventport.projections.checkpoints import ProjectionId

from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.projections import SQLiteCheckpoints


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def in_child(work: Callable[[], Coroutine[Any, Any, object]]) -> str:
    """Return the name of the error that a forked child meets."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # what hangs says nothing
        said = "no error"
        try:
            asyncio.run(work())
        except BaseException as exc:  # noqa: BLE001  # its name is what is asked for
            said = type(exc).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_a_forked_child_is_refused(path: Path) -> None:
    loop = asyncio.new_event_loop()
    store = loop.run_until_complete(SQLiteEventStore.open(path))
    events = [NewEvent("E", 1)]
    loop.run_until_complete(store.append("s", events))
    assert in_child(lambda: store.append("s", events)) == "WrongEventLoopError"
    assert in_child(lambda: store.read("s")) == "WrongEventLoopError"
    assert in_child(store.aclose) == "WrongEventLoopError"
    assert loop.run_until_complete(store.append("s", [NewEvent("E", 2)])).version == 2
    loop.run_until_complete(store.aclose())
    loop.close()


def test_checkpoints_in_a_forked_child_are_refused(path: Path) -> None:
    loop = asyncio.new_event_loop()
    opening = SQLiteCheckpoints.open(path)
    checkpoints = loop.run_until_complete(opening.__aenter__())
    projection = ProjectionId("p", 1)
    loop.run_until_complete(checkpoints.activate(projection))
    assert in_child(lambda: checkpoints.load(projection)) == "WrongEventLoopError"
    assert in_child(lambda: checkpoints.activate(projection)) == "WrongEventLoopError"
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()


async def test_two_loops_in_two_threads(store: SQLiteEventStore) -> None:
    """What the store says of each append is true, and its own thread goes on."""
    refused: list[int] = []

    async def append(number: int) -> None:
        try:
            await store.append(f"elsewhere-{number}", [NewEvent("E", number)])
        except WrongEventLoopError:
            refused.append(number)

    async def elsewhere() -> None:
        await asyncio.gather(*map(append, range(50)))

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    for number in range(50):
        await store.append(f"here-{number}", [NewEvent("E", number)])
    await asyncio.to_thread(thread.join)
    assert len(refused) == 50
    streams = {event.stream for event in (await store.read_all()).events}
    assert streams == {f"here-{number}" for number in range(50)}


def test_a_loop_for_each_request(path: Path) -> None:
    store = asyncio.run(SQLiteEventStore.open(path))
    with pytest.raises(WrongEventLoopError, match=r"events\.db> belongs to another event loop"):
        asyncio.run(store.append("s", [NewEvent("E", 1)]))
    with pytest.raises(WrongEventLoopError):
        asyncio.run(store.read("s"))
    with pytest.raises(WrongEventLoopError):
        asyncio.run(store.aclose())
    for connection in (store._reader, store._writer):
        connection.stop()  # as aiosqlite does when it is forgotten
