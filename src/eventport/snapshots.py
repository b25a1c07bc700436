"""Snapshots: a state kept beside its stream, so that loading it folds only what came later."""

from __future__ import annotations

import logging

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from anyio.abc import TaskGroup
from msgspec import Struct

from eventport._logs import about
from eventport.errors import EventportError, InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.folding import Fold, replay
from eventport.protocols import Streams
from eventport.results import AggregateResult
from eventport.snapshot_stores import (
    MemorySnapshotStore,
    Snapshot,
    SnapshotStore,
    StreamSnapshotStore,
)
from eventport.typed.conversion import conversion_of, explain, is_pydantic
from eventport.typed.sameness import find_difference
from eventport.typed.shape import shape_of
from eventport.validation import check_int, show


__all__ = [
    "MemorySnapshotStore",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotStats",
    "SnapshotStore",
    "Snapshots",
    "StateCodec",
    "StreamSnapshotStore",
    "every",
]

_log: Final = logging.getLogger("eventport")

S = TypeVar("S")
E = TypeVar("E")

SnapshotPolicy: TypeAlias = Callable[[int, Any], bool]
"""Whether to take a snapshot, given how many events came since the last one, and the state."""


def every(events: int) -> SnapshotPolicy:
    """Take a snapshot when at least this many events have come since the last one."""
    check_int("events", events, least=1)
    return lambda since, _: since >= events


class StateCodec(Struct, Generic[S], frozen=True):
    """How a state becomes bytes, and how it comes back."""

    encode: Callable[[S], bytes]
    decode: Callable[[bytes], S]
    name: str = ""
    """What the state is; snapshots of a state of another name are not used.

    Change it whenever the encoded form changes.
    """


@dataclass
class SnapshotStats:
    """What has happened since this object was made."""

    loads: int = 0
    """How many states were loaded."""
    events: int = 0
    """How many events were folded for that."""
    used: int = 0
    """Loads that began at a snapshot."""
    missing: int = 0
    """Loads that found none; like those below, they replayed the whole stream."""
    outdated: int = 0
    """Loads that found one of another schema."""
    broken: int = 0
    """Loads that found one that could not be read or decoded."""
    diverged: int = 0
    """Loads that found one ahead of the stream, or of a history that is no longer there."""
    taken: int = 0
    """Snapshots that were saved."""
    failed: int = 0
    """Snapshots that could not be encoded or saved; the log says why."""


class Snapshots:
    """A `StateLoader` that begins at the newest snapshot, and takes new ones.

    It changes no result, only the work: a snapshot that is outdated, broken or ahead of the
    stream is passed over, and the whole stream is folded.

    Args:
        store: Where snapshots are kept.
        state: The type of the state, which msgspec can encode and decode, or a `StateCodec`.
        schema: The version of the fold. Change it whenever what an event does to the state has
            changed: older snapshots are passed over from then on. That the state's type has
            changed is noticed without it, unless `state` is a `StateCodec`.
        policy: When to take a snapshot. It is asked after each load of a newest state, so that
            with ``every(100)`` the load that crosses the hundredth event takes one.
        task_group: Where to save snapshots. The state is still encoded during the load, because
            it is the caller's afterwards. Without a task group, the load waits for the save.
    """

    def __init__(
        self,
        store: SnapshotStore,
        state: Any,
        *,
        schema: int | str = 1,
        policy: SnapshotPolicy | None = None,
        task_group: TaskGroup | None = None,
    ) -> None:
        self.stats = SnapshotStats()
        """Counters that show whether snapshots are worth it."""
        self._store = store
        self._codec: StateCodec[Any] = state if isinstance(state, StateCodec) else _json(state)
        self._schema = f"{self._codec.name} {schema}".strip()
        self._policy = every(100) if policy is None else policy
        self._task_group = task_group
        self._saving: set[str] = set()

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        """See `StateLoader.load`. A snapshot that cannot be taken is logged, and fails no load."""
        loaded = await self._load(streams, stream, fold, to_version)
        if to_version is None and loaded.since and loaded.last is not None:
            try:
                if self._policy(loaded.since, loaded.result.state):
                    snapshot = self._snapshot(loaded.last, loaded.result.state)
                    if self._task_group is None:
                        await self._save_quietly(snapshot)
                    else:
                        self._task_group.start_soon(self._save_quietly, snapshot)
            except Exception as exc:  # noqa: BLE001  # of the policy or the codec: the user's own
                self._count_failure(stream, exc)
        return loaded.result

    async def snapshot_now(self, streams: Streams, stream: str, fold: Fold[S, E]) -> int:
        """Take a snapshot of the newest state, whatever the policy says.

        Returns:
            The version that the newest snapshot has now; 0 if the stream does not exist.

        Raises:
            InvalidArgumentError: the state cannot be encoded, or `streams` is a session that has
                appended to the stream.
        """
        loaded = await self._load(streams, stream, fold, None)
        if loaded.since:
            if loaded.last is None:
                message = f"stream {stream!r} has events that are not committed yet"
                raise InvalidArgumentError(message)
            await self._save(self._snapshot(loaded.last, loaded.result.state))
        return loaded.result.version

    async def is_right(self, streams: Streams, stream: str, fold: Fold[S, E]) -> bool:
        """Return whether the newest snapshot of a stream has the state that a replay gives.

        One that no load would begin at, because it is missing or of another schema, is right. What
        the fold or the codec raises comes through.
        """
        snapshot = await self._store.latest(stream)
        if snapshot is None or snapshot.schema != self._schema:
            return True
        kept = self._codec.decode(snapshot.state)
        replayed = await replay.load(streams, stream, fold, to_version=snapshot.version)
        if find_difference(kept, replayed.state) is None:
            return True
        # Of a class that only the codec knows, the encoded forms are compared.
        return self._codec.encode(kept) == self._codec.encode(replayed.state)

    async def _load(
        self, streams: Streams, stream: str, fold: Fold[S, E], to_version: int | None
    ) -> _Loaded[S]:
        self.stats.loads += 1
        found = await self._find(stream, to_version)
        if found is not None:
            try:
                loaded = await self._fold(streams, stream, fold, found, to_version)
            except _DivergedError:
                self.stats.diverged += 1
                _log.warning(
                    "snapshot of stream %r passed over: the stream, as seen here, lacks its event",
                    stream,
                    extra=about(stream=stream),
                )
            else:
                self.stats.used += 1
                return loaded
        return await self._fold(streams, stream, fold, None, to_version)

    async def _find(self, stream: str, to_version: int | None) -> tuple[Snapshot, Any] | None:
        """Return the newest snapshot that can be used, and the state in it."""
        try:
            snapshot = await self._store.latest(stream, to_version=to_version)
            if snapshot is None:
                self.stats.missing += 1
            elif snapshot.schema != self._schema:
                self.stats.outdated += 1
            else:
                return snapshot, self._codec.decode(snapshot.state)
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with it: there is the stream
            self.stats.broken += 1
            path, reason = explain(exc)  # its text may quote the state
            extra = about(stream=stream)
            _log.warning(
                "snapshot of stream %r passed over: %s%s", stream, reason, path, extra=extra
            )
        return None

    async def _fold(
        self,
        streams: Streams,
        stream: str,
        fold: Fold[S, E],
        base: tuple[Snapshot, S] | None,
        to_version: int | None,
    ) -> _Loaded[S]:
        """Fold all of a stream, or what came after a snapshot."""
        snapshot, state = base or (None, fold.initial())
        first = 1 if snapshot is None else snapshot.version
        last: RecordedEvent | None = None
        since = 0
        async with aclosing(
            streams.iterate(stream, from_version=first, to_version=to_version)
        ) as events:
            async for event in events:
                if last is None and snapshot is not None:
                    # The snapshot's own event comes first, to see whether it is still there.
                    if event.version != first or event.id != snapshot.event_id:
                        raise _DivergedError
                else:
                    state = fold.evolve(state, fold.types.decode(event))
                    since += 1
                last = event
        self.stats.events += since
        if last is not None:
            result = AggregateResult(state, last.version, exists=True)
            return _Loaded(result, since, last if last.position else None)
        if snapshot is not None:
            raise _DivergedError
        exists = to_version is not None and (await streams.read(stream, max_count=0)).exists
        return _Loaded(AggregateResult(state, 0, exists), 0, None)

    def _snapshot(self, last: RecordedEvent, state: Any) -> Snapshot:
        encoded = self._codec.encode(state)
        return Snapshot(last.stream, last.version, last.id, self._schema, encoded)

    async def _save_quietly(self, snapshot: Snapshot) -> None:
        # One is enough, however many tasks load the stream at this moment.
        if snapshot.stream in self._saving:
            return
        self._saving.add(snapshot.stream)
        try:
            await self._save(snapshot)
        except Exception as exc:  # noqa: BLE001  # of the snapshot store, which may be the user's
            self._count_failure(snapshot.stream, exc)
        finally:
            self._saving.remove(snapshot.stream)

    async def _save(self, snapshot: Snapshot) -> None:
        await self._store.save(snapshot)
        self.stats.taken += 1

    def _count_failure(self, stream: str, exc: Exception) -> None:
        self.stats.failed += 1
        # Neither the texts of others nor a traceback, which has those of the causes: they may
        # quote the state.
        reason = str(exc) if isinstance(exc, EventportError) else f"{type(exc).__name__} was raised"
        extra = about(stream=stream)
        _log.error("no snapshot of stream %r could be taken: %s", stream, reason, extra=extra)


class _DivergedError(Exception):
    """A snapshot is of another history than the stream."""


class _Loaded(Struct, Generic[S], frozen=True):
    """A state, and what a snapshot of it takes."""

    result: AggregateResult[S]
    since: int
    """How many events were folded."""
    last: RecordedEvent | None
    """The last event of the state; None for an uncommitted event of a session."""


def _json(state: Any) -> StateCodec[Any]:
    """Return what encodes a type as JSON, and refuses what does not come out of it the same."""
    decode: Callable[[bytes], Any]
    to_plain: Callable[[Any], Any] | None = None
    try:
        if is_pydantic(state):
            to_plain, decode = conversion_of(state).encode, state.model_validate_json
        else:
            decode = msgspec.json.Decoder(state).decode
        shape = shape_of(state)
    except (TypeError, NameError) as exc:
        message = f"{show(state)} cannot be the state of snapshots: {exc}: pass a StateCodec"
        raise InvalidArgumentError(message) from exc
    name = getattr(state, "__qualname__", "")

    def encode(value: Any) -> bytes:
        try:
            raw = msgspec.json.encode(value if to_plain is None else to_plain(value))
            found = find_difference(value, decode(raw))
        except Exception as exc:
            raise _refusal(name, *explain(exc)) from exc
        if found is not None:
            raise _refusal(name, *found)
        return raw

    return StateCodec(encode, decode, f"{name} {shape}".strip())


def _refusal(name: str, path: str, reason: str) -> InvalidArgumentError:
    message = f"the state cannot be kept: {name or 'it'}{path}: {reason}: pass a StateCodec"
    return InvalidArgumentError(message)
