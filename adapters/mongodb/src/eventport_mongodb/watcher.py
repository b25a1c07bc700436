"""Waking up for the commits of others: a change stream, on which nothing else depends."""

from __future__ import annotations

import asyncio
import logging

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pymongo.errors import PyMongoError

from eventport_mongodb.asking import Asker
from eventport_mongodb.driver import Collection, settled
from eventport_mongodb.translation import describe


_log: Final = logging.getLogger("eventport")

_INSERTS: Final[list[dict[str, Any]]] = [
    {"$match": {"operationType": "insert"}},
    {"$project": {"_id": 1}},
]
_LONGEST_PAUSE: Final = 5.0


class Watcher:
    """Calls back whenever something was inserted, from its start until its end.

    A change stream that ends, because its history is lost or nobody is primary, is opened again.

    Args:
        collection: What to watch.
        asker: Asks the server.
        wake: Called for each insert.
        set_watching: Called with whether inserts are being noticed, when that changes.
    """

    def __init__(
        self,
        collection: Collection,
        asker: Asker,
        wake: Callable[[], None],
        set_watching: Callable[[bool], None],
    ) -> None:
        self._collection = collection
        self._asker = asker
        self._wake = wake
        self._set_watching = set_watching
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                changes = await self._asker.once(self._open)
                try:
                    failures = 0
                    self._set_watching(True)  # noqa: FBT003  # it is what is set
                    while True:
                        # It answers within a second, so a silent connection is noticed.
                        if await self._asker.once(changes.try_next) is not None:
                            self._wake()
                finally:
                    with suppress(PyMongoError):
                        await self._asker.once(changes.close)
            except PyMongoError as exc:
                _log.info("the change stream has ended and is opened again: %s", describe(exc))
            finally:
                self._set_watching(False)  # noqa: FBT003  # as above
            failures += 1
            await asyncio.sleep(min(0.05 * 2**failures, _LONGEST_PAUSE))

    async def _open(self) -> Any:
        return await settled(self._collection.watch(_INSERTS))
