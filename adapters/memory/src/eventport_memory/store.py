"""The store in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

from eventport import ConfigurationError
from eventport.adapter import Store, redact
from eventport.projections import MemoryCheckpoints
from eventport.transactions import DocumentReader, InlineHandler

from eventport_memory.engine import MemoryEngine


class MemoryEventStore(Store):
    """An event store that lives as long as the object. It runs under asyncio and trio.

    It belongs to one event loop; it must not be shared between threads.
    """

    def __init__(self, *, clock: Callable[[], datetime] | None = None) -> None:
        """Make an empty store.

        Args:
            clock: Returns the aware time at which events are recorded, such as a `FakeClock` of
                `eventport.testing`; by default the system's.
        """
        self._memory = MemoryEngine() if clock is None else MemoryEngine(clock)
        super().__init__(self._memory, batching="never")
        self._checkpoints = MemoryCheckpoints(self._memory.documents)

    @classmethod
    async def connect(cls, url: str = "memory://") -> Self:
        """Open a new, empty store; its URL is always ``memory://``."""
        if url.rstrip("/") != "memory:":
            message = f"memory:// takes no name, got {redact(url)!r}"
            raise ConfigurationError(message)
        return cls()

    def inline(self, handler: InlineHandler[None]) -> InlineHandler[None]:
        """Register a handler that runs with each commit of this store; see `InlineStore.inline`.

        There is no connection: it writes the documents of read models, with
        `ReadModel.within`. Commits wait for each other's handlers.
        """
        return self._memory.inline.add(handler)

    @asynccontextmanager
    async def checkpoints(self) -> AsyncGenerator[MemoryCheckpoints]:
        """Give the checkpoints of this store, which live as long as it does."""
        yield self._checkpoints

    @asynccontextmanager
    async def read_models(self) -> AsyncGenerator[DocumentReader]:
        """Give the documents of this store; see `open_read_models`."""
        yield self._memory.documents
