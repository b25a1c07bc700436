"""A store that several processes share: the file of the worked adapter with a lock; and mutants.

The processes that the clauses start find these stores by their URLs.
"""

from __future__ import annotations

import fcntl
import time

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from anyio.to_thread import run_sync
from file_store import FileEngine, Row
from msgspec.json import Decoder, encode

from eventport import Capability
from eventport.adapter import (
    Adapter,
    AllPage,
    AllQuery,
    Commit,
    Outcome,
    Store,
    StreamPage,
    StreamQuery,
)

from eventport_conformance.proof.noop_store import NoOpStore


_DECODER: Final = Decoder(list[Row])


class SharedFileEngine(FileEngine):
    """It takes in what others have written before it writes, and before it reads."""

    capabilities = FileEngine.capabilities | {Capability.SHARED}

    def __init__(self, path: Path) -> None:
        self._writing = False
        self._end = 0
        self._path = path
        super().__init__(path)

    @classmethod
    async def open(cls, url: str) -> Store:
        """Open the file that a URL names."""
        return Store(cls(Path(url.partition(":///")[2])))

    def _load(self, path: Path) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take in what has been written since the last time, except for half a line."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self.take_in(line)

    def take_in(self, line: bytes) -> None:
        self._keep(_DECODER.decode(line))
        self._end += len(line)

    async def lock(self) -> None:
        await run_sync(fcntl.flock, self._file, fcntl.LOCK_EX)

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        await self.lock()
        self.refresh()
        self._writing = True
        try:
            return await super().commit(batch)
        finally:
            self._writing = False
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _append(self, lines: bytes) -> None:
        self.write(lines)
        self._end = self._path.stat().st_size

    def write(self, lines: bytes) -> None:
        self._file.write(lines)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        if not self._writing:
            self.refresh()
        return await super().read_stream(query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if not self._writing:
            self.refresh()
        return await super().read_all(query)


class WithoutLock(SharedFileEngine):
    """Two processes can look at the file before either of them writes."""

    async def lock(self) -> None:
        """Take none."""

    def write(self, lines: bytes) -> None:
        time.sleep(0.002)
        super().write(lines)


class SkipsHalfLines(SharedFileEngine):
    """A reader that sees half a line goes on after it, and never sees the rest."""

    def refresh(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._end)
            data = file.read()
        end = self._end + len(data)
        for line in data.splitlines(keepends=True):
            if line.startswith(b"[[") and line.endswith(b"\n"):
                self.take_in(line)
        self._end = end

    def write(self, lines: bytes) -> None:
        super().write(lines[:10])
        time.sleep(0.002)
        super().write(lines[10:])


class WritesLater(SharedFileEngine):
    """It says that events are written when it has them in memory."""

    kept = b""

    def _append(self, lines: bytes) -> None:
        self.kept += lines
        if len(self.kept) > 5_000:
            super()._append(self.kept)
            self.kept = b""


class Torn(SharedFileEngine):
    """It writes the events of a commit one by one."""

    def write(self, lines: bytes) -> None:
        for line in lines.splitlines():
            for row in _DECODER.decode(line):
                super().write(encode([row]) + b"\n")
                time.sleep(0.002)


async def open_nothing(url: str) -> NoOpStore:
    """Open the store that does nothing, as if it were at a URL."""
    return NoOpStore()


shared = Adapter(open=SharedFileEngine.open)
without_lock = Adapter(open=WithoutLock.open)
skips_half_lines = Adapter(open=SkipsHalfLines.open)
writes_later = Adapter(open=WritesLater.open)
torn = Adapter(open=Torn.open)
nothing = Adapter(open=open_nothing)

ADAPTERS: Final = {
    SharedFileEngine: "shared",
    WithoutLock: "without_lock",
    SkipsHalfLines: "skips_half_lines",
    WritesLater: "writes_later",
    Torn: "torn",
}
"""Under which name a process finds each of them here; it is the scheme of its URLs, with dashes."""
