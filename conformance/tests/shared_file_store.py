"""A store that several processes share: the file of the worked adapter behind a lock; and bugs.

The processes that the clauses start find these stores by their URLs.
"""

from __future__ import annotations

import fcntl
import time

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from anyio.to_thread import run_sync
from file_store import FileEventStore, Row
from msgspec.json import Decoder, encode

from eventport import Capability
from eventport.adapter import AllPage, Commit, Outcome, StreamPage

from eventport_conformance.proof.nothing import NothingStore


_DECODER: Final = Decoder(list[Row])


class SharedFileStore(FileEventStore):
    """It looks at what others have written before it writes, and before it reads."""

    capabilities = FileEventStore.capabilities | {Capability.SHARED}
    poll_interval = 0.005  # type: ignore[assignment]  # others write, too
    max_poll_interval = 0.01

    def __init__(self, path: Path) -> None:
        self._writing = False
        self._end = 0
        super().__init__(path)

    @classmethod
    async def connect(cls, url: str) -> Self:
        return cls(Path(url.partition(":///")[2]))

    def _load(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take in what has been written since the last look, except for half a line."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self.take_in(line)

    def take_in(self, line: bytes) -> None:
        for row in _DECODER.decode(line):
            row.position = len(self._log) + 1
            self._log.append(row)
            self._streams.setdefault(row.stream, []).append(row)
        self._end += len(line)

    async def lock(self) -> None:
        await run_sync(fcntl.flock, self._file, fcntl.LOCK_EX)

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        await self.lock()
        self.refresh()
        self._writing = True
        try:
            return await super()._commit(commits)
        finally:
            self._writing = False
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _append(self, lines: bytes) -> None:
        self.write(lines)
        self._end = self._path.stat().st_size

    def write(self, lines: bytes) -> None:
        self._file.write(lines)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        if not self._writing:
            self.refresh()
        return await super()._read_stream(stream, first, last, max_count, backwards=backwards)

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        if not self._writing:
            self.refresh()
        return await super()._read_all(after, max_count, types, prefix)


class WithoutLock(SharedFileStore):
    """Two processes can look at the file before either of them writes."""

    async def lock(self) -> None:
        """Take none."""

    def write(self, lines: bytes) -> None:
        time.sleep(0.002)
        super().write(lines)


class SkipsHalfLines(SharedFileStore):
    """A reader that sees half a line goes on behind it, and never sees the rest."""

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


class WritesLater(SharedFileStore):
    """It says that events are written when it has them in memory."""

    kept = b""

    def _append(self, lines: bytes) -> None:
        self.kept += lines
        if len(self.kept) > 5_000:
            super()._append(self.kept)
            self.kept = b""


class Torn(SharedFileStore):
    """It writes the events of a commit one by one."""

    def write(self, lines: bytes) -> None:
        for line in lines.splitlines():
            for row in _DECODER.decode(line):
                super().write(encode([row]) + b"\n")
                time.sleep(0.002)


async def nothing(url: str) -> NothingStore:
    """Open the store that does nothing, as if it were at a URL."""
    return NothingStore()


STORES: Final = (SharedFileStore, WithoutLock, SkipsHalfLines, WritesLater, Torn)
