"""Other processes that work on a store: what they run, and how a test talks to them."""

from __future__ import annotations

import json
import signal
import sys

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from subprocess import PIPE
from typing import Any

import anyio

from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from eventport import ConcurrencyError, NewEvent, connect

from eventport_conformance.trial import Deviation


START_SECONDS = 30.0
"""How long a process may take until it has opened its store."""


class Worker:
    """A process that has opened the store, and does one piece of work when it is told to."""

    def __init__(self, process: Process) -> None:
        self._process = process
        if process.stdout is None or process.stdin is None:  # cannot be: both are pipes
            raise RuntimeError
        self._stdin = process.stdin
        self._output = TextReceiveStream(process.stdout)
        self._rest = ""

    async def line(self) -> Any:
        """Wait for the next thing that it tells; None if it has ended."""
        while "\n" not in self._rest:
            try:
                self._rest += await self._output.receive()
            except anyio.EndOfStream:
                return None
        line, _, self._rest = self._rest.partition("\n")
        return json.loads(line)

    async def go(self) -> None:
        """Let it begin."""
        await self._stdin.send(b"go\n")

    def kill(self) -> None:
        """End it without any warning."""
        self._process.send_signal(signal.SIGKILL)


@asynccontextmanager
async def worker(url: str, work: str, *args: object) -> AsyncGenerator[Worker, None]:
    """Start a process that opens the store at a URL, and waits to be told to do its work."""
    command = [sys.executable, "-m", __name__, url, work, *map(str, args)]
    async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as process:
        started = Worker(process)
        try:
            ready: Any = None
            with anyio.move_on_after(START_SECONDS):
                ready = await started.line()
            if ready != "ready":
                raise Deviation("another process opens the store", "it does", "it does not")
            yield started
        finally:
            if process.returncode is None:
                process.kill()


async def _race(url: str, name: str, streams: str) -> None:
    """Try to be the first to append to each stream; tell which were won."""
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
    """Append several events at a time, by sessions too, and tell what was acknowledged."""
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


def _begin() -> None:
    _tell("ready")
    sys.stdin.readline()


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, work, *args = sys.argv[1:]
    works: dict[str, Callable[..., Coroutine[Any, Any, None]]]
    works = {"race": _race, "fill": _fill, "write": _write_until_killed}
    anyio.run(partial(works[work], url, *args))
