"""An event store in one append-only file: a worked example of an adapter.

Each line of the file is one commit. A line that a crash cut off is no commit, and is removed when
the file is opened again. All events are also kept in memory, where they are read from.
"""

from __future__ import annotations

import fcntl
import os

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Self
from uuid import UUID

from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from eventport.adapter import (
    AllPage,
    BaseEventStore,
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Outcome,
    StreamPage,
    Written,
    decode_event,
    plan,
)
from eventport.errors import ConfigurationError, IncompatibleStoreError, StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.protocols import Capability


class Row(Struct, array_like=True):
    """An event as it stands in the file: either `text`, which is JSON, or `blob`."""

    stream: str
    version: int
    type: str
    text: str | None
    blob: bytes | None
    metadata: str
    id: UUID
    recorded_at: datetime
    position: int = 0  # counted when the file is read


class FileEventStore(BaseEventStore):
    """An event store in one file, for one process."""

    capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER, Capability.DURABLE})
    limitations: ClassVar[dict[Capability, str]] = {
        Capability.SHARED: "one process holds the file; use SQLite to share events",
        Capability.PUSH: "there are no commits by other processes",
    }
    poll_interval = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._log: list[Row] = []
        self._streams: dict[str, list[Row]] = {}
        self._file = path.open("ab", buffering=0)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Open the file that a URL names, such as ``file:///orders.events``."""
        path = Path(url.removeprefix("file:///"))
        try:
            return await run_sync(cls, path)
        except OSError as exc:
            message = f"{path} cannot be opened: {exc}"
            raise ConfigurationError(message) from exc

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        now = datetime.now(UTC)
        fresh: dict[str, list[Row]] = {}  # what the commits of this batch add so far
        position = len(self._log)
        lines: list[bytes] = []

        def head(stream: str) -> int:
            return len(self._streams.get(stream, ())) + len(fresh.get(stream, ()))

        def stored(stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
            rows = [*self._streams.get(stream, ()), *fresh.get(stream, ())][first - 1 : last]
            return [(row.id, row.position, row.recorded_at) for row in rows]

        def write(commit: Commit) -> Outcome:
            nonlocal position
            planned = plan(commit, head, stored)
            if isinstance(planned, Committed | Conflict):
                return planned
            written: list[Written] = []
            line: list[Row] = []
            for part, first in zip(commit.writes, planned, strict=True):
                rows = [
                    _row(part.stream, first + i, position + 1 + i, event, now)
                    for i, event in enumerate(part.events)
                ]
                position += len(rows)
                fresh.setdefault(part.stream, []).extend(rows)
                line += rows
                positions = [row.position for row in rows]
                written.append(Written(rows[-1].version, positions, first == 1))
            lines.append(encode(line) + b"\n")
            return Committed(written, now)

        outcomes = [write(commit) for commit in commits]
        # Nobody sees the events before they are on the disk.
        await run_sync(self._append, b"".join(lines))
        for rows in fresh.values():
            self._streams.setdefault(rows[0].stream, []).extend(rows)
        self._log += sorted((r for rows in fresh.values() for r in rows), key=lambda r: r.position)
        return outcomes

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        await checkpoint()  # others get a turn, and a cancellation a place
        rows = self._streams.get(stream, [])
        found = rows[first - 1 : last]
        if backwards:
            found = found[::-1]
        return StreamPage([_decode(row) for row in found[:max_count]], len(rows))

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        await checkpoint()
        rows = self._log[after : after + max_count]
        events = [
            _decode(row)
            for row in rows
            if (types is None or row.type in types)
            and (prefix is None or row.stream.startswith(prefix))
        ]
        return AllPage(events, after + len(rows), len(self._log))

    async def _close(self) -> None:
        self._file.close()

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
            message = f"{self._path} cannot be written to: {exc}"
            raise StoreUnavailableError(message) from exc

    def _load(self) -> None:
        """Take the file for this process, and read what is in it."""
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        decoder, end = Decoder(list[Row]), 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                self._file.truncate(end)  # cut off by a crash, so it was never acknowledged
                return
            try:
                rows = decoder.decode(line)
            except DecodeError as exc:
                message = f"{self._path} is not a file of events: {exc}"
                raise IncompatibleStoreError(message) from exc
            for row in rows:
                row.position = len(self._log) + 1
                self._log.append(row)
                self._streams.setdefault(row.stream, []).append(row)
            end += len(line)


def _row(stream: str, version: int, position: int, event: EncodedEvent, now: datetime) -> Row:
    text, blob = (None, event.data) if isinstance(event.data, bytes) else (event.data, None)
    return Row(stream, version, event.type, text, blob, event.metadata, event.id, now, position)


def _decode(row: Row) -> RecordedEvent:
    data = row.blob if row.text is None else row.text
    if data is None:
        message = f"event {row.position} has no data"
        raise IncompatibleStoreError(message)
    return decode_event(
        row.stream,
        row.version,
        row.position,
        row.type,
        data,
        row.metadata,
        row.id,
        row.recorded_at,
    )
