"""Where snapshots are kept: in memory, or in streams of an event store."""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct

from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import Streams
from eventport.toolkit_streams import not_a_record, read_record, toolkit_stream
from eventport.validation import check_int


SNAPSHOT: Final = "eventport.SnapshotTaken"


class Snapshot(Struct, frozen=True):
    """The state of a stream at a version."""

    stream: str
    """The stream that was folded."""
    version: int
    """The version of the last event that was folded."""
    event_id: UUID
    """The id of that event: it shows whether the stream still has the same history."""
    schema: str
    """What the state was encoded as; a snapshot of another schema is not used."""
    state: bytes
    """The encoded state."""


class SnapshotStore(Protocol):
    """Keeps snapshots. It may lose any of them at any time: that costs a replay, and no more."""

    async def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; it may drop older ones of the same stream."""
        ...

    async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
        """Return the newest snapshot of a stream, if there is any.

        Args:
            stream: The stream that was folded.
            to_version: Consider none of a higher version.
        """
        ...


class MemorySnapshotStore:
    """Keeps snapshots in this process, and forgets the older ones.

    It is a cache, and right even if other processes write to the same streams: a load folds what
    has come since.

    Args:
        retention: How many snapshots of a stream it keeps.
        streams: For how many streams it keeps snapshots: those that were used last.
    """

    def __init__(self, *, retention: int = 1, streams: int = 10_000) -> None:
        self._retention = check_int("retention", retention, least=1)
        self._streams = check_int("streams", streams, least=1)
        self._kept: dict[str, list[Snapshot]] = {}
        """The stream that was used last stands last."""

    async def save(self, snapshot: Snapshot) -> None:
        """See `SnapshotStore.save`."""
        kept = self._kept.pop(snapshot.stream, [])
        self._kept[snapshot.stream] = [snapshot, *kept][: self._retention]
        if len(self._kept) > self._streams:
            del self._kept[next(iter(self._kept))]

    async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
        """See `SnapshotStore.latest`."""
        if stream not in self._kept:
            return None
        self._kept[stream] = kept = self._kept.pop(stream)
        return _newest(kept, to_version)


class StreamSnapshotStore:
    """Keeps the snapshots of a stream as events of another stream.

    Event stores only append, so older snapshots stay in the database: retention bounds what is
    read, and frees no space.

    Args:
        store: Where to; it may be the store of the events themselves.
        retention: How many of a stream's snapshots are searched for an earlier version. For the
            newest state, one is read.
        name: Separates the snapshots of different folds of the same streams.
    """

    def __init__(self, store: Streams, *, retention: int = 10, name: str | None = None) -> None:
        self._store = store
        self._retention = check_int("retention", retention, least=1)
        self._name = name

    def stream(self, stream: str) -> str:
        """Return the stream that the snapshots of a stream are in."""
        return toolkit_stream("snapshot", stream, *([] if self._name is None else [self._name]))

    async def save(self, snapshot: Snapshot) -> None:
        """See `SnapshotStore.save`."""
        metadata = {
            "stream": snapshot.stream,
            "version": snapshot.version,
            "event_id": str(snapshot.event_id),
            "schema": snapshot.schema,
        }
        event = NewEvent(SNAPSHOT, snapshot.state, metadata)
        await self._store.append(self.stream(snapshot.stream), [event])

    async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
        """See `SnapshotStore.latest`.

        Raises:
            CorruptEventError: something else has written to the stream of the snapshots.
        """
        count = 1 if to_version is None else self._retention
        found = await self._store.read(self.stream(stream), backwards=True, max_count=count)
        snapshots = [read_snapshot(event) for event in found.events]
        for event, snapshot in zip(found.events, snapshots, strict=True):
            if snapshot.stream != stream:
                raise not_a_record(event, SNAPSHOT, "it is of another stream")
        return _newest(snapshots, to_version)


def read_snapshot(event: RecordedEvent) -> Snapshot:
    """Return the snapshot that an event of a stream of snapshots holds.

    Raises:
        CorruptEventError: something else has written to that stream.
    """
    return read_record(event, SNAPSHOT, Snapshot, {**event.metadata, "state": event.data})


def _newest(snapshots: list[Snapshot], to_version: int | None) -> Snapshot | None:
    for snapshot in snapshots:
        if to_version is None or snapshot.version <= to_version:
            return snapshot
    return None
