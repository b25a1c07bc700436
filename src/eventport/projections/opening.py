"""From a URL, or a name in a file, to an open checkpoint store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from eventport._config.connecting import find
from eventport.projections.checkpoints import CheckpointStore
from eventport.projections.streams import StreamCheckpoints
from eventport.protocols import EventStore


STREAMS: Final = "streams"
"""What stands for checkpoints in the streams of the event store."""


@asynccontextmanager
async def open_checkpoints(
    store: EventStore, target: str | None = None
) -> AsyncGenerator[CheckpointStore[Any]]:
    """Open the checkpoints that go with a store.

    Args:
        store: Where the events are.
        target: What `connect` takes: a URL, a store's name in the configuration, or None for the
            default. If that kind of store keeps checkpoints in the transaction of the read model,
            they are there; otherwise, and for ``"streams"``, they are streams of the event store.
    """
    if target != STREAMS:
        found = find(target)
        if (make := found.adapter.checkpoints) is not None:
            async with make(found.url, **found.known_to(make)) as checkpoints:
                yield checkpoints
            return
    yield StreamCheckpoints(store)
