"""The store in memory is conformant, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta, tzinfo
from unittest.mock import patch

from eventport import EventStore

from eventport_conformance import Capabilities, UrlHarness, conformance
from eventport_conformance.notes import DocumentNotes, Notes


class SlowDatetime(datetime):
    """A clock that is an hour slow."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # not a `Self`
        return datetime.now(tz) - timedelta(hours=1)


class MemoryHarness(UrlHarness):
    name, location = "memory", "memory://"
    capabilities = Capabilities.only(
        "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
    )
    backends = ("asyncio", "trio")
    absent = {
        **dict.fromkeys(
            ("address", "open_at", "restart", "frozen", "troubles", "read_only"),
            "there is no server",
        ),
        **dict.fromkeys(("delete_stream", "truncate_stream"), "nobody else has its events"),
        "refused_event": "memory takes every event",
        "odd_client": "it has no connections",
    }

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    @asynccontextmanager
    async def slow_clock(self) -> AsyncGenerator[None, None]:
        with patch("eventport_memory.engine.datetime", SlowDatetime):
            yield


TestMemory = conformance(MemoryHarness)
