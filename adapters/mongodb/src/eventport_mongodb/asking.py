"""Asking the server: every call ends by an answer, or at a deadline, and is then tried again."""

from __future__ import annotations

import asyncio
import random
import time

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

import pymongo

from anyio import sleep
from bson.errors import BSONError
from pymongo.errors import NetworkTimeout, PyMongoError

from eventport.errors import StoreUnavailableError

from eventport_mongodb.translation import describe, is_connection_lost


P = ParamSpec("P")
T = TypeVar("T")

SHORTEST: Final = 1.0
"""How many seconds a call gets at least, however short the timeout of the store is."""

_GRACE: Final = 0.5
"""How much later than the driver's own deadline a call is given up that the driver did not end."""


class Asker:
    """Runs calls of the driver so that none is waited for without end.

    A call is a task of its own. Its caller may be cancelled, which neither reaches the driver nor
    waits for it: the call ends by itself, and its connection goes back in order, or else the
    driver throws it away at the deadline. So no connection is spoilt by impatient callers, and
    nobody gets a cancellation that is not its own.

    Args:
        where: The store, as errors name it; without any secret.
        timeout: For how many seconds to try.
    """

    def __init__(self, where: str, timeout: float) -> None:
        self.where = where
        self.timeout = timeout
        self.seconds = max(timeout / 3, SHORTEST)
        """How long one call may take. A connection that says nothing for as long is lost."""
        self._running: set[asyncio.Task[object]] = set()

    async def once(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make one call.

        Raises:
            PyMongoError: what the driver raises, or `NetworkTimeout` at the deadline.
        """

        async def run() -> T:
            # The driver hands this on to the server, and to the threads that Motor works in.
            with pymongo.timeout(self.seconds):
                return await call(*args, **kwargs)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._end)
        await asyncio.wait([task], timeout=self.seconds + _GRACE)
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            return task.result()
        message = f"no answer within {self.seconds:g} s"
        raise NetworkTimeout(message)

    async def ask(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that changes nothing, again and again while the server cannot be reached.

        Raises:
            PyMongoError: the server refuses it.
            StoreUnavailableError: it could not be reached in time.
        """
        return await self.patience().ask(call, *args, **kwargs)

    def patience(self) -> Patience:
        """Begin to wait for the server."""
        return Patience(self)

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


class Patience:
    """Waits between attempts, ever longer, until nothing has succeeded for too long."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.renew()

    def renew(self) -> None:
        """Begin anew: something has succeeded."""
        self._attempts = 0
        self._deadline = time.monotonic() + self._asker.timeout

    async def wait(self, why: str, cause: Exception | None = None) -> None:
        """Wait before the next attempt, or raise `StoreUnavailableError`."""
        if time.monotonic() > self._deadline:
            detail = "" if cause is None else f": {describe(cause)}"
            message = (
                f"{self._asker.where}: given up after {self._asker.timeout:g} s: {why}{detail}"
            )
            raise StoreUnavailableError(message) from cause
        longest = min(0.01 * 2**self._attempts, 1.0)
        self._attempts += 1
        await sleep(random.uniform(longest / 2, longest))  # noqa: S311  # no secret depends on it

    async def once(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Asker.once`."""
        return await self._asker.once(call, *args, **kwargs)

    async def ask(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Asker.ask`."""
        return await self._repeat(is_connection_lost, call, *args, **kwargs)

    async def insist(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call until it succeeds: no error of it says anything about a write before it.

        Raises:
            StoreUnavailableError: it did not succeed in time.
        """
        return await self._repeat(lambda _: True, call, *args, **kwargs)

    async def _repeat(
        self,
        may_pass: Callable[[Exception], bool],
        call: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        while True:
            try:
                return await self._asker.once(call, *args, **kwargs)
            except (PyMongoError, BSONError) as exc:
                if not may_pass(exc):
                    raise
                await self.wait("the server cannot be reached", exc)
