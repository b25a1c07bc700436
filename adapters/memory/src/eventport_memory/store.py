"""The store in memory."""

from __future__ import annotations

from typing import Self

from eventport import ConfigurationError
from eventport.adapter import Store, redact

from eventport_memory.engine import MemoryEngine


class MemoryEventStore(Store):
    """An event store that lives as long as the object. It runs under asyncio and trio.

    It belongs to one event loop; it must not be shared between threads.
    """

    def __init__(self) -> None:
        super().__init__(MemoryEngine(), batching="never")

    @classmethod
    async def connect(cls, url: str = "memory://") -> Self:
        """Open a new, empty store; its URL is always ``memory://``."""
        if url.rstrip("/") != "memory:":
            message = f"memory:// takes no name, got {redact(url)!r}"
            raise ConfigurationError(message)
        return cls()
