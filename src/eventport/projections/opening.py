"""From a URL, or a name in a file, to an open checkpoint store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, cast, runtime_checkable

from eventport.configuration import (
    accepted_options,
    convert_option,
    find_opener,
    load,
    resolve,
    split_query,
)
from eventport.projections.checkpoints import CheckpointStore
from eventport.projections.streams import StreamCheckpoints
from eventport.protocols import EventStore


ENTRY_POINT_GROUP: Final = "eventport.checkpoints"
"""Adapters with checkpoints of their own register here, by URL scheme: a `CheckpointsOpener`."""

STREAMS: Final = "streams"
"""What stands for checkpoints in the streams of the event store."""


class CheckpointsOpener(Protocol):
    """Opens a checkpoint store that closes itself when the block ends.

    Options are keyword-only parameters; those of the event store's that it does not have are not
    passed on.
    """

    def __call__(self, url: str, **options: Any) -> Any:
        """Return an async context manager that gives a `CheckpointStore`."""
        ...


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A store whose database can keep checkpoints in the transaction of a read model."""

    def checkpoints(self) -> AbstractAsyncContextManager[CheckpointStore[Any]] | None:
        """Open the checkpoints in the store's own place; None if it cannot keep them there."""
        ...


@asynccontextmanager
async def open_checkpoints(
    store: EventStore, target: str | None = None
) -> AsyncGenerator[CheckpointStore[Any]]:
    """Open the checkpoints that go with a store.

    Args:
        store: Where the events are.
        target: A URL, or a store's name in the configuration, as `connect` takes it; None for
            the place of the store itself. If that kind of store keeps checkpoints in the
            transaction of the read model, they are there; otherwise, and for ``"streams"``, they
            are streams of the event store.
    """
    if target is None:
        own = store.checkpoints() if isinstance(store, KeepsCheckpoints) else None
        if own is not None:
            async with own as checkpoints:
                yield checkpoints
            return
    elif target != STREAMS:
        url, stored = resolve(target, None)
        scheme, opener = find_opener(url)
        registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
        if scheme in registered:
            make = cast("CheckpointsOpener", load(registered[scheme]))
            accepted = accepted_options(scheme, opener)
            url, asked = split_query(url, accepted)
            known = accepted_options(scheme, cast("Any", make))
            options = {
                name: convert_option(scheme, name, value, accepted)
                for name, value in {**asked, **stored}.items()
                if name in known
            }
            async with make(url, **options) as checkpoints:
                yield checkpoints
            return
    yield StreamCheckpoints(store)
