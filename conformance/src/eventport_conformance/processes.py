"""Other processes that work on a store: what they run, and how a test talks to them."""

from __future__ import annotations

import json
import sys

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio

from anyio import to_thread

from eventport import ConcurrencyError, NewEvent, connect

from eventport_conformance.deciding import decide
from eventport_conformance.scripts import Script
from eventport_conformance.waiting import START_SECONDS, no_hang


T = TypeVar("T")


class Worker:
    """A process that has opened the store, and does one piece of work on demand."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def line(self) -> Any:
        """Wait for its next report; None if it has ended."""
        line = await self._in_thread(self._script.line)
        return json.loads(line) if line else None

    async def opened(self) -> None:
        """Wait until it has opened its store; fail if it does not."""
        with no_hang("another process opens the store", START_SECONDS):
            await self._in_thread(self._script.ready)

    async def go(self) -> None:
        """Let it begin."""
        self._script.go()

    def kill(self) -> None:
        """End it without any warning."""
        self._script.kill()

    async def _in_thread(self, wait: Callable[[], T]) -> T:
        return await to_thread.run_sync(wait, abandon_on_cancel=True)


@asynccontextmanager
async def worker(url: str, work: str, *args: object) -> AsyncGenerator[Worker, None]:
    """Start a process that opens the store at a URL, and waits for the sign to begin."""
    script = Script("-m", __name__, url, work, *args)
    try:
        started = Worker(script)
        await started.opened()
        yield started
    finally:
        script.end()


async def _race(url: str, name: str, streams: str) -> None:
    """Try to be the first to append to each stream; report which were won."""
    async with connect(url) as store:
        _begin()
        for number in range(int(streams)):
            try:
                await store.append(f"s{number}", [NewEvent("By", name)], expected=0)
            except ConcurrencyError as exc:
                _tell([number, "lost", exc.actual])
            else:
                _tell([number, "won", 1])


async def _fill(url: str, name: str, appends: str) -> None:
    """Append events, several at a time, to streams that others append to as well."""
    async with connect(url) as store:
        _begin()
        for number in range(int(appends)):
            events = [NewEvent("By", [name, number, place]) for place in range(1 + number % 3)]
            await store.append(f"s{number % 4}", events)
        _tell("done")


async def _write_until_killed(url: str) -> None:
    """Append several events at a time, by sessions too, and report what was acknowledged."""
    async with connect(url) as store:
        _begin()
        for number in range(1_000_000):
            events = [NewEvent("N", [number, place]) for place in range(3)]
            if number % 2:
                version = (await store.append("a", events)).version
            else:
                async with store.session() as session:
                    version = (await session.append("a", events)).version
            _tell(version)


async def _decide(url: str, name: str, rounds: str, seed: str) -> None:
    """Append under random conditions; report how many appends were written."""
    async with connect(url) as store:
        _begin()
        written, _ = await decide(store, name, int(rounds), seed=int(seed))
        _tell(written)


def _begin() -> None:
    print("ready", flush=True)  # noqa: T201  # to the test
    sys.stdin.readline()


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, work, *args = sys.argv[1:]
    works: dict[str, Callable[..., Coroutine[Any, Any, None]]]
    works = {"race": _race, "fill": _fill, "write": _write_until_killed, "decide": _decide}
    anyio.run(partial(works[work], url, *args))
