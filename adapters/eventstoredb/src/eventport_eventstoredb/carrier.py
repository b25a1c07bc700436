"""One long call for each connection that carries the appends to single streams.

One call for each append would cost more than the append itself. Answers come in any order; each
has the id of its request.
"""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventport_eventstoredb.errors import LostConnectionError
from eventport_eventstoredb.vendor import Channel
from eventport_eventstoredb.wire import to_uuid


class SharedCallError(Exception):
    """The call has ended with an error, its cause, that may be about another append."""


class Carrier:
    """Sends appends on a connection, and hands each its answer.

    Args:
        channel: The connection.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._call = channel.streams.BatchAppend(**channel.for_appends)
        self._pending: dict[UUID, asyncio.Future[Any]] = {}
        self._carried = 0
        self._outbox: asyncio.Queue[Sequence[tuple[UUID, Any]]] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    def carries(self, channel: Channel) -> bool:
        """Return whether it can be used on a connection."""
        return channel is self._channel and not self._reader.done()

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._reader.done() and self._writer.done()

    async def ask(self, requests: Sequence[tuple[UUID, Any]]) -> list[Any]:
        """Send requests in this order, and wait for the answer to the last one.

        Returns:
            The answers; None for one that has not come by then.

        Raises:
            SharedCallError: the call has ended; it is not known whether this append took place.
            Exception: what the call has ended with, if it carried this append only.
        """
        self._carried += 1
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in requests]
        for (id_, _), future in zip(requests, futures, strict=True):
            self._pending[id_] = future
        self._outbox.put_nowait(requests)
        try:
            await futures[-1]
            return [one.result() if _has_answer(one) else None for one in futures]
        finally:
            for id_, _ in requests:
                self._pending.pop(id_, None)
            for future in futures:
                if future.done() and not future.cancelled():
                    future.exception()  # it was looked at

    async def end(self) -> None:
        """End the call, and wait for it: one that outlives the event loop disturbs the next."""
        self._call.cancel()
        self._writer.cancel()
        await asyncio.wait([self._reader, self._writer])

    async def _write(self) -> None:
        # In a task of its own: gRPC ends the whole call if one that writes is cancelled.
        try:
            while True:
                for _, request in await self._outbox.get():
                    await self._call.write(request)
        except Exception:  # noqa: BLE001  # the reader raises the reason in the callers
            self._call.cancel()

    async def _read(self) -> None:
        error: Exception = LostConnectionError("the server ended the call that carries appends")
        try:
            async for response in self._call:
                self._channel.heard = asyncio.get_running_loop().time()
                future = self._pending.pop(to_uuid(response.correlation_id), None)
                if future is not None and not future.done():
                    future.set_result(response)
        except Exception as exc:  # noqa: BLE001  # it is raised in the callers that wait
            error = exc
        finally:
            self._call.cancel()
            self._writer.cancel()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(self._reason(error))

    def _reason(self, error: Exception) -> Exception:
        if self._carried == 1:
            return error
        shared = SharedCallError()
        shared.__cause__ = error
        return shared


def _has_answer(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
