"""Calls of the driver: each ends by an answer or at a deadline, and no caller can spoil one."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

import pymongo

from pymongo.errors import NetworkTimeout

from eventport.adapter import Alarms


P = ParamSpec("P")
T = TypeVar("T")

SHORTEST: Final = 1.0
"""How many seconds a call gets at least, however short the timeout of the store is."""

_GRACE: Final = 1.0
"""How much later than the driver's own deadline a call is given up that the driver did not end."""


class Asker:
    """Runs calls of the driver so that none is waited for without end.

    A call is a task of its own. Its caller may be cancelled, which neither reaches the driver nor
    waits for it: the call ends by itself, and its connection goes back in order, or else the
    driver throws it away at the deadline. So no connection is spoilt by impatient callers, and
    nobody gets a cancellation that is not its own.

    Args:
        timeout: For how many seconds the store tries.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout: Final = timeout
        self.seconds: Final = max(timeout / 3, SHORTEST)
        """How long one call may take. A connection that says nothing for as long is lost."""
        self._running: set[asyncio.Task[object]] = set()
        self._alarms = Alarms()

    async def once(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make one call.

        Raises:
            PyMongoError: what the driver raises, or `NetworkTimeout` at the deadline.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def end(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        async def run() -> T:
            try:
                return await call(*args, **kwargs)
            finally:
                end()  # a turn of the loop earlier than the callback below

        task = self.start(run, self.seconds)
        task.add_done_callback(end)  # it may have been cancelled before its first step
        alarm = self._alarms.set(loop.time() + self.seconds + _GRACE, end)
        try:
            await waiter
        finally:
            self._alarms.clear(alarm)
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            return task.result()
        message = f"no answer within {self.seconds:g} s"
        raise NetworkTimeout(message)

    async def patiently(
        self, call: Callable[[], Awaitable[T]], ping: Callable[[], Awaitable[object]]
    ) -> T:
        """Make a call that may take any time, while the server answers others.

        Args:
            call: What to do. The server gets no deadline for it.
            ping: Asks for a sign of life. What it raises ends the call.
        """
        task = self.start(call, None)
        try:
            while not (await asyncio.wait([task], timeout=self.seconds))[0]:
                await ping()
        finally:
            task.cancel()  # it has ended, unless the server fell silent or the caller left
        return task.result()

    def start(self, call: Callable[[], Awaitable[T]], seconds: float | None) -> asyncio.Task[T]:
        """Begin a call that nobody need wait for, in a task of its own."""

        async def run() -> T:
            # The driver hands this on to the server, and to the threads that Motor works in.
            with pymongo.timeout(seconds):
                return await call()

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    async def close(self) -> None:
        """Let calls that nobody waits for any more end, and cancel those that do not."""
        running = set(self._running)
        if running:
            _, late = await asyncio.wait(running, timeout=self.seconds)
            for task in late:
                task.cancel()

    def _end(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # so that asyncio does not call it forgotten
