"""From a URL, or a name in a file, to an open checkpoint store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, runtime_checkable

from eventport._config.connecting import find
from eventport._config.options import accepted_options
from eventport.projections.checkpoints import CheckpointStore
from eventport.projections.stream_checkpoints import StreamCheckpoints
from eventport.protocols import EventStore


STREAMS: Final = "streams"
"""The name of checkpoints in the streams of the event store."""


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A store whose database can keep checkpoints in the transaction of a read model."""

    def checkpoints(self) -> AbstractAsyncContextManager[CheckpointStore[Any]] | None:
        """Open the checkpoints in the store's own place; None if it cannot keep them there."""
        ...


@asynccontextmanager
async def open_checkpoints(
    store: EventStore, target: str | None = None, *, create: bool = True
) -> AsyncGenerator[CheckpointStore[Any]]:
    """Open the checkpoints that go with a store.

    Args:
        store: Where the events are.
        target: A URL, or a store's name in the configuration, as `connect` takes it; None for
            the place of the store itself. If that kind of store keeps checkpoints in the
            transaction of the read model, they are there; otherwise, and for ``"streams"``, they
            are streams of the event store.
        create: Whether to make the tables of `target` if there are none.

    Raises:
        ConfigurationError: `target` leads to no checkpoints, or there are none and none are to be
            made.
    """
    if target is None:
        own = store.checkpoints() if isinstance(store, KeepsCheckpoints) else None
        if own is not None:
            async with own as checkpoints:
                yield checkpoints
            return
    elif target != STREAMS:
        found = find(target)
        if (make := found.adapter.checkpoints) is not None:
            options = found.known_to(make)
            if not create and "create" in accepted_options(make):
                options["create"] = False
            async with make(found.url, **options) as checkpoints:
                yield checkpoints
            return
    yield StreamCheckpoints(store)
