"""Checking a store: that its events are in order and can be read, and that what it keeps agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, ValidationError, convert

from eventport.catalogue import iterate_streams
from eventport.errors import CorruptEventError, EventportError
from eventport.events import RecordedEvent
from eventport.folding import EventCodec, Fold
from eventport.keys import CLAIMED, RELEASED
from eventport.projections.checkpoints import Checkpoint
from eventport.projections.resuming import find_mismatch
from eventport.projections.stream_checkpoints import CHECKPOINT, read_checkpoint
from eventport.protocols import Capability, EventStore
from eventport.snapshot_stores import SNAPSHOT, read_snapshot
from eventport.snapshots import Snapshots
from eventport.toolkit_streams import is_toolkit_stream
from eventport.validation import TOOLKIT_STREAMS


_KEYS: Final = f"{TOOLKIT_STREAMS}key/"


class Finding(Struct, frozen=True):
    """Something that is not as it should be."""

    kind: str
    """What kind of thing it is.

    ``order``, ``gap``, ``id``, ``unreadable``, ``type``, ``key``, ``snapshot``, ``checkpoint`` or
    ``head``.
    """
    stream: str
    """The stream that it is about; "" for the whole store."""
    version: int
    """The version that it is about; 0 for the whole stream."""
    reason: str
    """What is wrong. It has no data of an event."""


class Replayed(Struct, frozen=True):
    """How to replay some streams, so that their snapshots in streams can be compared."""

    prefix: str
    """How the names of these streams begin."""
    snapshots: Snapshots
    """What uses the snapshots."""
    fold: Fold[Any, Any]
    """How the events become a state."""


class Verdict(Struct, frozen=True):
    """What a check has found."""

    events: int
    """How many events were looked at."""
    streams: int
    """In how many streams."""
    position: int
    """The position of the last one."""
    findings: list[Finding]
    """What is wrong; the first ones of many."""
    more: int
    """How many findings there are besides."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


async def verify(
    store: EventStore,
    *,
    types: EventCodec[Any] | None = None,
    checkpoints: Mapping[str, Checkpoint] = MappingProxyType({}),
    replays: Iterable[Replayed] = (),
    progress: Callable[[int], object] = lambda _: None,
    max_findings: int = 100,
) -> Verdict:
    """Look at all events of a store, in their order.

    It finds positions that do not increase, versions with gaps, ids that come twice, events that
    cannot be read, claims of unique keys that exclude each other, snapshots of events that are not
    there, checkpoints of projections in streams that are ahead of the store or of another history,
    and heads that are not those of the last events. It takes about 150 bytes of memory for
    each event.

    Args:
        store: The store; it is only read.
        types: What decodes the program's own events; without it, their data is not looked into.
        checkpoints: Checkpoints that are kept elsewhere and are verified, too, by what to call
            them. Load them before, so that events of the meantime do not matter.
        replays: With these, the newest snapshot of each stream is compared with a replay.
        progress: Is called with 1 after each event.
        max_findings: How many findings are kept; the others are counted.

    Raises:
        NotSupportedError: the backend has no `Capability.GLOBAL_ORDER`.
    """
    found = _Findings(max_findings)
    check = _Events(found, types)
    try:
        async with aclosing(store.iterate_all()) as events:
            async for event in events:
                check.take(event)
                progress(1)
    except CorruptEventError as exc:
        found.add("unreadable", "", 0, f"after position {check.position}: {exc}")
    else:
        await _check_snapshots(store, check, list(replays), found)
        await _check_checkpoints(store, check, checkpoints, found)
        await _check_heads(store, check, found)
    return Verdict(check.events, len(check.heads), check.position, found.kept, found.more)


class _Owned(Struct):
    """What a record about a key says of its owner."""

    owner: str


class _Snapshot(Struct):
    """A snapshot, and the event that it is of; its state, which may be large, is not kept."""

    version: int
    of: str
    of_version: int
    event_id: UUID


class _Findings:
    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self.kept: list[Finding] = []
        self.more = 0

    def add(self, kind: str, stream: str, version: int, reason: str) -> None:
        if len(self.kept) < self._at_most:
            self.kept.append(Finding(kind, stream, version, reason))
        else:
            self.more += 1


class _Events:
    """What one event after the other shows."""

    def __init__(self, found: _Findings, types: EventCodec[Any] | None) -> None:
        self._found = found
        self._types = types
        self._ids: set[int] = set()
        self._owners: dict[str, str | None] = {}
        self.heads: dict[str, int] = {}
        self.snapshots: dict[str, _Snapshot] = {}
        """The newest snapshot in each stream of snapshots."""
        self.checkpoints: dict[str, RecordedEvent] = {}
        """The newest checkpoint in each stream of checkpoints."""
        self.events = 0
        self.position = 0

    def take(self, event: RecordedEvent) -> None:
        stream, version = event.stream, event.version
        if event.position <= self.position:
            reason = f"its position {event.position} is not after {self.position}"
            self._found.add("order", stream, version, reason)
        before = self.heads.get(stream, 0)
        if version != before + 1:
            self._found.add("gap", stream, version, f"it comes after version {before}")
        id_ = event.id.int
        if id_ in self._ids:
            self._found.add("id", stream, version, f"the id {event.id} has come before")
        self._ids.add(id_)
        self.heads[stream] = version
        self.events, self.position = self.events + 1, event.position
        if is_toolkit_stream(stream):
            self._take_record(event)
        elif self._types is not None:
            self._decode(self._types, event)

    def _take_record(self, event: RecordedEvent) -> None:
        if event.type == SNAPSHOT:
            self._take_snapshot(event)
        elif event.type == CHECKPOINT:
            self.checkpoints[event.stream] = event
        if not event.stream.startswith(_KEYS):
            return
        holder = self._owners.get(event.stream)
        try:
            owner = convert(event.data, _Owned).owner
        except ValidationError:
            owner = ""  # it fits nobody
        if event.type == CLAIMED and holder is None:
            self._owners[event.stream] = owner
        elif event.type == RELEASED and holder == owner:
            self._owners[event.stream] = None
        else:
            reason = "it claims a key that is held, or releases one that is not"
            self._found.add("key", event.stream, event.version, reason)

    def _take_snapshot(self, event: RecordedEvent) -> None:
        self.snapshots.pop(event.stream, None)
        try:
            found = read_snapshot(event)
        except CorruptEventError:
            found = None
        if found is None or found.version < 1:
            self._found.add("snapshot", event.stream, event.version, "it is no snapshot")
            return
        of = _Snapshot(event.version, found.stream, found.version, found.event_id)
        self.snapshots[event.stream] = of

    def _decode(self, types: EventCodec[Any], event: RecordedEvent) -> None:
        try:
            types.decode(event)
        except EventportError as exc:
            self._found.add("type", event.stream, event.version, str(exc))


async def _check_snapshots(
    store: EventStore, check: _Events, replays: Sequence[Replayed], found: _Findings
) -> None:
    """See that the events are there that the newest snapshots are of, and the states are right."""
    for stream, snapshot in check.snapshots.items():
        of, version = snapshot.of, snapshot.of_version
        if of not in check.heads:
            continue  # it is of another store
        if version > check.heads[of]:
            found.add("snapshot", stream, snapshot.version, f"it is ahead of {of!r}")
            continue
        read = await store.read(of, from_version=version, to_version=version)
        if [event.id for event in read.events] != [snapshot.event_id]:
            reason = f"version {version} of {of!r} is another event: it is not used"
            found.add("snapshot", stream, snapshot.version, reason)
        elif wrong := await _compare(store, of, replays):
            found.add("snapshot", stream, snapshot.version, wrong)


async def _compare(store: EventStore, stream: str, replays: Sequence[Replayed]) -> str | None:
    """Return what is wrong with the state in the newest snapshot of a stream."""
    for one in replays:
        if stream.startswith(one.prefix):
            try:
                if not await one.snapshots.is_right(store, stream, one.fold):
                    return f"its state is not the one that a replay of {stream!r} gives"
            except Exception as exc:  # noqa: BLE001  # of the program's own code
                # Without its text, which may hold data.
                return f"{stream!r} cannot be replayed: {type(exc).__name__} was raised"
    return None


async def _check_checkpoints(
    store: EventStore, check: _Events, others: Mapping[str, Checkpoint], found: _Findings
) -> None:
    """See that the newest checkpoints are those of this store, and not ahead of it."""
    for stream, event in check.checkpoints.items():
        try:
            reason = await find_mismatch(store, read_checkpoint(event))
        except CorruptEventError:
            reason = "it is no checkpoint"
        if reason is not None:
            found.add("checkpoint", stream, event.version, reason)
    for name, checkpoint in others.items():
        reason = await find_mismatch(store, checkpoint)
        if reason is not None:
            found.add("checkpoint", "", 0, f"{name}: {reason}")


async def _check_heads(store: EventStore, check: _Events, found: _Findings) -> None:
    """See that the list of streams is that of the events, as far as nobody appends meanwhile."""
    if Capability.CATALOGUE not in store.capabilities:
        return
    listed: dict[str, int] = {}
    for prefix in (None, TOOLKIT_STREAMS):
        async for one in iterate_streams(store, prefix=prefix):
            if one.position <= check.position:
                listed[one.stream] = one.version
    for stream, version in check.heads.items():
        if listed.get(stream, version) != version:
            found.add("head", stream, listed[stream], f"its last event has version {version}")
