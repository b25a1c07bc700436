"""What eventport finds by the entry point of this package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from eventport import Capability, NotSupportedError
from eventport.adapter import Adapter
from eventport.transactions import DocumentReader

from eventport_mongodb.checkpoints import MongoDBCheckpoints
from eventport_mongodb.driver import DriverName
from eventport_mongodb.store import COLLECTION, MongoDBEventStore, Timeout


@asynccontextmanager
async def connect_checkpoints(
    url: str,
    *,
    driver: DriverName = "pymongo",
    collection: str = COLLECTION,
    timeout: Timeout = 30.0,  # noqa: ASYNC109  # of the server, not of this call
) -> AsyncGenerator[MongoDBCheckpoints]:
    """Open the checkpoints beside the events that a URL names.

    Raises:
        NotSupportedError: the server stands alone.
    """
    connecting = MongoDBEventStore.connect(
        url, driver=driver, collection=collection, timeout=timeout
    )
    async with await connecting as store:
        if (own := store.checkpoints()) is None:
            raise _refusal(store)
        async with own as checkpoints:
            yield checkpoints


@asynccontextmanager
async def connect_read_models(
    url: str,
    *,
    driver: DriverName = "pymongo",
    collection: str = COLLECTION,
    timeout: Timeout = 30.0,  # noqa: ASYNC109  # as above
) -> AsyncGenerator[DocumentReader]:
    """Open the documents beside the events that a URL names.

    Raises:
        NotSupportedError: the server stands alone.
    """
    connecting = MongoDBEventStore.connect(
        url, driver=driver, collection=collection, timeout=timeout
    )
    async with await connecting as store:
        if (own := store.read_models()) is None:
            raise _refusal(store)
        async with own as reader:
            yield reader


def _refusal(store: MongoDBEventStore) -> NotSupportedError:
    message = (
        f"{store!r} keeps neither checkpoints nor documents beside the events: "
        f"{store.limitations[Capability.SESSIONS]}; or keep checkpoints in streams"
    )
    return NotSupportedError(message)


ADAPTER: Final = Adapter(
    open=MongoDBEventStore.connect,
    checkpoints=connect_checkpoints,
    read_models=connect_read_models,
)
