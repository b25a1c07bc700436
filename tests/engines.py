"""Engines for tests of the store: they keep events in memory, and are small, slow or watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anyio import Event
from anyio.lowlevel import checkpoint

from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Outcome,
    StreamPage,
    StreamQuery,
)

from eventport_conformance import hard
from eventport_memory.engine import MemoryEngine


async def nothing() -> None:
    """Do nothing."""


class TinyPages(hard.TinyPages):
    """Gives few events at once, and scans few, whatever it is asked for; it counts its calls."""

    def __init__(self, size: int = 2, scan: int = 3) -> None:
        super().__init__(MemoryEngine(), events=size, scan=scan)
        self.largest = 0
        self.pages = 0
        self.commits = 0
        self.between_pages: Callable[[], Any] | None = None

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        self.commits += len(batch)
        return await super().commit(batch)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        await self._turn_page(query.max_count)
        return await super().read_stream(query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        await self._turn_page(query.max_count)
        return await super().read_all(query)

    async def _turn_page(self, max_count: int | None) -> None:
        self.largest = max(self.largest, max_count or 0)
        if self.pages and self.between_pages is not None:
            await self.between_pages()
        self.pages += 1


class Watched(MemoryEngine):
    """Notes each page of the global order, and lets a test act before and after it is read."""

    def __init__(self, size: int = 500) -> None:
        super().__init__()
        self.size = size
        self.asked: list[int] = []
        self.before_read: Callable[[], Any] = nothing
        self.after_read: Callable[[], Any] = nothing

    async def read_all(self, query: AllQuery, /) -> AllPage:
        self.asked.append(query.max_count)
        await self.before_read()
        page = await super().read_all(query.resumed(query.after, min(self.size, query.max_count)))
        await self.after_read()
        return page


class Slow(MemoryEngine):
    """Commits and closes when a test lets it, and notes both."""

    def __init__(self) -> None:
        super().__init__()
        self.commit_now, self.close_now = Event(), Event()
        self.done: list[str] = []
        self.close_error: Exception | None = None

    def let_go(self) -> None:
        self.commit_now.set()
        self.close_now.set()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        await self.commit_now.wait()
        assert "close" not in self.done
        self.done.append("commit")
        await checkpoint()
        return await super().commit(batch)

    async def close(self) -> None:
        self.done.append("close")
        await self.close_now.wait()
        if self.close_error:
            raise self.close_error
