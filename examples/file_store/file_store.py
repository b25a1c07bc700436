"""An event store in one append-only file: a worked example of an adapter.

Each line of the file is one commit. A line that a crash left unfinished is no commit, and is
removed when the file is opened again. All events are also kept in memory, where they are read.
"""

from __future__ import annotations

import fcntl
import os

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode
from msgspec.structs import asdict

from eventport import Capability, RecordedEvent, adapter, errors


class Row(Struct, array_like=True):
    """An event as it stands in the file: either `text`, which is JSON, or `blob`."""

    stream: str
    version: int
    type_: str
    text: str | None
    blob: bytes | None
    metadata: str
    id_: UUID
    recorded_at: datetime
    tags: frozenset[str]
    position: int = 0  # counted when the file is read

    def decode(self) -> RecordedEvent:
        fields = asdict(self)
        text, blob = fields.pop("text"), fields.pop("blob")
        return adapter.decode_event(data=blob if text is None else text, **fields)


class FileEngine:
    """Keeps events in one file, for one process."""

    capabilities: frozenset[Capability] = frozenset(
        {Capability.SESSIONS, Capability.GLOBAL_ORDER, Capability.DURABLE, Capability.TIMES}
    )
    limitations: Mapping[Capability, str] = {
        Capability.SHARED: "one process holds the file; use SQLite to share events",
        Capability.PUSH: "there are no commits by other processes",
        Capability.GUARDS: "this example checks only the streams that it writes; use SQLite",
        Capability.CONDITIONS: "this example has no index of tags; use SQLite",
        Capability.CATALOGUE: "this example has no list of its streams; use SQLite",
    }

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._log: list[Row] = []
        self._streams: dict[str, list[Row]] = {}
        self._file = path.open("ab", buffering=0)
        try:
            self._load(path)
        except BaseException:
            self._file.close()
            raise

    async def commit(self, batch: Sequence[adapter.Commit], /) -> Sequence[adapter.Outcome]:
        """Write a batch: decide in memory, and put all lines on the disk at once."""
        lines: list[list[Row]] = []
        outcomes = [self._apply(commit, lines) for commit in batch]
        # No reader sees the events before they are on the disk.
        await run_sync(self._append, b"".join(encode(line) + b"\n" for line in lines))
        for line in lines:
            self._keep(line)
        return outcomes

    async def read_stream(self, query: adapter.StreamQuery, /) -> adapter.StreamPage:
        await checkpoint()  # others get a turn, and a cancellation a place
        rows = self._streams.get(query.stream, [])
        return adapter.StreamPage([rows[v - 1].decode() for v in query.clip(len(rows))], len(rows))

    async def read_all(self, query: adapter.AllQuery, /) -> adapter.AllPage:
        await checkpoint()
        rows = self._log[query.after : query.after + query.max_count]
        events = [row.decode() for row in rows if query.matches(row.stream, row.type_, row.tags)]
        return adapter.AllPage(events, query.after + len(rows), len(self._log))

    async def close(self) -> None:
        self._file.close()

    def _apply(self, commit: adapter.Commit, lines: list[list[Row]]) -> adapter.Outcome:
        """Decide a commit on what is stored and on the lines that come before it."""

        def rows(stream: str) -> list[Row]:
            new = [row for line in lines for row in line if row.stream == stream]
            return self._streams.get(stream, []) + new

        def stored(stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
            return [(r.id_, r.position, r.recorded_at) for r in rows(stream)[first - 1 : last]]

        planned = adapter.plan(commit, lambda stream: len(rows(stream)), stored)
        if not isinstance(planned, list):
            return planned
        line: list[Row] = []
        lines.append(line)
        written: list[adapter.Written] = []
        for write, first in zip(commit.writes, planned, strict=True):
            position = len(self._log) + sum(map(len, lines))
            new = _rows(write, first, position, rows(write.stream)[-1:])
            line += new
            times, positions = [r.recorded_at for r in new], [r.position for r in new]
            written.append(adapter.Written(new[-1].version, positions, first == 1, times))
        return adapter.Committed(written)

    def _keep(self, line: Sequence[Row]) -> None:
        for row in line:
            row.position = len(self._log) + 1
            self._log.append(row)
            self._streams.setdefault(row.stream, []).append(row)

    def _append(self, lines: bytes) -> None:
        """Write lines and make sure that they are on the disk, or take them back."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as exc:
            self._file.truncate(end)
            message = f"{self.name} cannot be written to: {exc}"
            raise errors.StoreUnavailableError(message) from exc

    def _load(self, path: Path) -> None:
        """Take the file for this process, and read what is in it."""
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        decoder, end = Decoder(list[Row]), 0
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                self._file.truncate(end)  # a crash left it unfinished: it was never acknowledged
                return
            try:
                self._keep(decoder.decode(line))
            except DecodeError as exc:
                message = f"{path} is not a file of events: {exc}"
                raise errors.IncompatibleStoreError(message) from exc
            end += len(line)


class FileEventStore(adapter.Store):
    """An event store in one file, for one process."""

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Open the file that a URL names, such as ``file:///orders.events``."""
        path = Path(url.removeprefix("file:///"))
        try:
            return cls(await run_sync(FileEngine, path))
        except OSError as exc:
            message = f"{path} cannot be opened: {exc}"
            raise errors.ConfigurationError(message) from exc


ADAPTER: Final = adapter.Adapter(open=FileEventStore.connect)


def _rows(write: adapter.StreamWrite, first: int, start: int, before: list[Row]) -> list[Row]:
    """Make the rows of one write; in a stream the time never goes back, whatever clocks do."""
    now = max([datetime.now(UTC), *(row.recorded_at for row in before)])
    rows: list[Row] = []
    for i, (event, at) in enumerate(zip(write.events, write.times(now), strict=True)):
        text, blob = (None, event.data) if isinstance(event.data, bytes) else (event.data, None)
        who = (write.stream, first + i, event.type)
        rows.append(Row(*who, text, blob, event.metadata, event.id, at, event.tags, start + 1 + i))
    return rows
