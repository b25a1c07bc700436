"""A harness for a store that a URL opens: its author writes three lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final
from uuid import uuid4

from eventport import Capability, EventStore, connect
from eventport.adapter import Adapter
from eventport.projections import CheckpointStore, open_checkpoints
from eventport.snapshot_stores import SnapshotStore, StreamSnapshotStore

from eventport_conformance.harness import Harness


NEW: Final = "{new}"
"""In a URL, this becomes a new name each time that an empty store is needed."""

FOLDER: Final = "{folder}"
"""In a URL, this becomes a directory that is removed afterwards."""


class NotEmptyError(Exception):
    """A store that was opened for a clause holds events."""


class UrlHarness(Harness):
    """Opens the store that a URL names.

    ::

        class MyHarness(UrlHarness):
            name, location = "mydb", "mydb://localhost/{new}"
            capabilities = Capabilities.only("sessions", "global_order", "durable", "hooks")
    """

    location: ClassVar[str]
    """The URL. ``{new}`` in it becomes a new name for each clause, and ``{folder}`` a directory
    that is removed after the clause."""

    adapter: ClassVar[Adapter | None] = None
    """What opens it; None for what is installed for the URL's scheme.

    Other processes find only what is installed.
    """

    _url = ""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        """Open a store at a new URL, and check that it is empty."""
        with TemporaryDirectory() as folder:
            self._url = new_url(self.location).replace(FOLDER, folder)
            async with self.second_client() as store:
                await self._check_empty(store)
                yield store

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        """Open another store at the same URL."""
        if self.adapter is None:
            async with connect(self._url) as store:
                yield store
        else:
            async with await self.adapter.open(self._url) as store:
                yield store

    def url(self) -> str:
        """Return the URL of the store that `open` gave."""
        return self._url

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        """Open the checkpoints at the place of the store: the backend's own, or in its streams."""
        return open_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:
        """Return snapshots in streams of the store."""
        return StreamSnapshotStore(store)

    async def _check_empty(self, store: EventStore) -> None:
        separate = NEW in self.location or FOLDER in self.location
        if separate or Capability.GLOBAL_ORDER not in store.capabilities:
            return
        if (await store.read_all(max_count=1)).events:
            message = (
                f"the store is not empty: write {NEW} where the URL names the database, such as "
                f"sqlite:////tmp/{NEW}.db, and each clause gets a new one"
            )
            raise NotEmptyError(message)


def new_url(location: str) -> str:
    """Return a URL with a new name in it."""
    return location.replace(NEW, f"conformance-{uuid4().hex[:12]}")
