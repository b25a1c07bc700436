"""Moves a store to another one, and kills itself at one of its calls of the backends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from eventport import connect
from eventport.adapter import Store
from eventport.moving import move_events

from eventport_conformance.hard import Around


_CALLS: Final = ("commit", "read_stream", "read_all", "query", "fenced", "set_fence")


class Mortal:
    """Counts calls, and dies before or after one of them."""

    def __init__(self, at: int, since: str) -> None:
        self._left = at
        self._since = since

    def around(self, store: object) -> Store:
        """Return a store whose calls are counted."""
        assert isinstance(store, Store)
        engine: Any = Around(store.engine)
        for name in _CALLS:
            if hasattr(engine, name):
                setattr(engine, name, self._counted(name, getattr(engine, name)))
        return Store(engine)

    def _counted(
        self, name: str, call: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        async def counted(*args: object) -> object:
            if name == self._since:
                self._since = ""
            self._tick()
            found = await call(*args)
            self._tick()
            return found

        return counted

    def _tick(self) -> None:
        if not self._since:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def main(source: str, target: str, at: str, since: str) -> None:
    mortal = Mortal(int(at), since)
    async with connect(source) as theirs, connect(target) as ours:
        report = await move_events(mortal.around(theirs), mortal.around(ours), to="the new store")
    print(msgspec.json.encode(report).decode(), flush=True)  # noqa: T201  # the test reads it


asyncio.run(main(*sys.argv[1:]))
