"""From a store, a URL, or a name in a file, to the documents that can be read there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, runtime_checkable

from eventport._config.connecting import find
from eventport.errors import NotSupportedError
from eventport.protocols import EventStore
from eventport.transactions import DocumentReader


@runtime_checkable
class KeepsReadModels(Protocol):
    """A store whose database can keep documents in the transaction of a checkpoint."""

    def read_models(self) -> AbstractAsyncContextManager[DocumentReader] | None:
        """Open the documents in the store's own place; None if it cannot keep them there."""
        ...


@asynccontextmanager
async def open_read_models(
    store: EventStore, target: str | None = None
) -> AsyncGenerator[DocumentReader]:
    """Open the documents of read models, to read them with `ReadModel.read`.

    Args:
        store: Where the events are.
        target: A URL, or a store's name in the configuration, as `open_checkpoints` takes it;
            None for the place of the store itself.

    Raises:
        NotSupportedError: documents cannot be kept there.
    """
    if target is not None:
        found = find(target)
        if (make := found.adapter.read_models) is not None:
            async with make(found.url, **found.known_to(make)) as reader:
                yield reader
            return
    elif isinstance(store, KeepsReadModels) and (own := store.read_models()) is not None:
        async with own as reader:
            yield reader
        return
    message = (
        f"{target or type(store).__name__} keeps no documents: memory, a file of SQLite, "
        "PostgreSQL and a replica set of MongoDB do; name one of them as the target"
    )
    raise NotSupportedError(message)
