"""Single calls: each ends in time, and a connection that is lost is replaced.

The store makes a call again, and gives up at its deadline.
"""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from eventport.adapter import limit_wait, run_shielded
from eventport.errors import EventportError, StoreUnavailableError

from eventport_eventstoredb.errors import (
    LostConnectionError,
    NoAnswerError,
    NotLeaderError,
    translate,
)
from eventport_eventstoredb.vendor import Channel, Connector


T = TypeVar("T")

_SHORTEST_ATTEMPT: Final = 1.0
"""For how many seconds an attempt may last, even if that is the whole timeout."""

_CLOSING_TIME: Final = 5.0
_CLOSED: Final = "the connection to the server has been closed"


def now() -> float:
    """Read the event loop's clock."""
    return asyncio.get_running_loop().time()


class Calls:
    """Makes calls on the connection, and connects again when it is lost.

    Args:
        connector: The vendor's client.
        timeout: For how many seconds the store makes a call again. One attempt gets half of it, so
            that there can be a second one on a new connection.
    """

    def __init__(self, connector: Connector, timeout: float) -> None:
        self.library: Final = connector.library
        self._timeout = timeout
        self._connector = connector
        attempt = max(timeout / 2, min(timeout, _SHORTEST_ATTEMPT))
        self.attempt: Final = min(attempt, self._connector.default_deadline or attempt)
        """How many seconds one attempt may take."""
        self._channel: Channel | None = None
        self._reconnecting = asyncio.Lock()
        self._closed = False

    @property
    def channel(self) -> Channel:
        """The connection of this moment."""
        if self._closed:
            raise StoreUnavailableError(_CLOSED)
        if self._channel is None:
            raise LostConnectionError("there is no connection to the server")
        return self._channel

    async def connect(self) -> None:
        """Connect, which for a cluster means to find its leader."""

        async def work() -> Channel:
            async with limit_wait(self._timeout):
                return await self._connector.connect()

        self._channel = await self._in_own_task(work, "")

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self._closed = True

        async def work() -> None:
            async with limit_wait(_CLOSING_TIME):
                if self._channel is not None:
                    await self._channel.close()
                    await self._connector.close()

        with suppress(EventportError):
            await self._in_own_task(work, "")

    async def run(self, work: Callable[[Channel, float], Awaitable[T]], stream: str) -> T:
        """Make one call, once, and connect again if it finds the server gone.

        Args:
            work: Makes the call on a connection, with a timeout in seconds.
            stream: Which stream it is about, for the text of errors.

        Raises:
            ConnectionLostError: it is not known whether it took place.
        """
        channel, began = self.channel, now()
        try:
            result = await self._in_own_task(lambda: work(channel, self.attempt), stream)
        except LostConnectionError as exc:
            target = exc.target if isinstance(exc, NotLeaderError) else None
            await self._reconnect(channel, target if self._connector.may_move else None)
            raise
        except NoAnswerError:
            # If another call was answered meanwhile, the connection works.
            if channel.heard < began:
                await self._reconnect(channel, None)
            raise
        except EventportError:
            channel.heard = now()
            raise
        channel.heard = now()
        return result

    async def _in_own_task(self, work: Callable[[], Awaitable[T]], stream: str) -> T:
        """Run something in a task of its own, and translate its errors.

        gRPC reports a connection that is closed during a call as a cancellation. In a task that
        nobody else can cancel, that cannot be confused with a cancellation of the caller.
        """

        async def run() -> T:
            try:
                return await work()
            except TimeoutError as exc:
                raise NoAnswerError(str(exc) or "the server gave no answer in time") from exc
            except Exception as exc:
                if (error := translate(self.library, exc, stream)) is exc:
                    raise
                raise error from exc

        task = asyncio.ensure_future(run())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            try:
                await run_shielded(asyncio.wait, [task])
            finally:  # an anyio scope cancels that wait, too
                if not task.cancelled():
                    task.exception()  # it was looked at
            raise
        if task.cancelled():  # by the connection, which was closed
            if self._closed:
                raise StoreUnavailableError(_CLOSED)
            raise LostConnectionError("the connection to the server was closed meanwhile")
        return task.result()

    async def _reconnect(self, gone: Channel, target: str | None) -> None:
        """Make a new connection, unless another call has done so already."""

        async def work() -> Channel:
            async with limit_wait(self.attempt):
                # The vendor's client would first wait for what still runs on the old one, such as
                # a subscription, for 5 seconds. What is cut off here starts again.
                await gone.close()
                return await self._connector.reconnect(target)

        async with self._reconnecting:
            if self._channel is gone and not self._closed:
                with suppress(StoreUnavailableError):
                    self._channel = await self._in_own_task(work, "")
