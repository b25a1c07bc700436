"""An engine over a recorder of `eventsourcing`, which is synchronous: its calls run in threads.

A stream is an originator whose id is text; an event's type is its topic, and its state holds the
rest as JSON. All that is decided by the recorder stays with it: which versions are taken, what is
written together, and the order of notifications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from anyio import to_thread
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    PersistenceError,
    StoredEvent,
)

from eventport import Capability, StoreUnavailableError
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    EncodedEvent,
    Failed,
    Outcome,
    StreamPage,
    StreamQuery,
    StreamWrite,
    Written,
    decode_event,
    plan,
)


_PAGE: Final = 500
_ATTEMPTS: Final = 1_000
"""How often an append is tried that others overtake."""


class State(msgspec.Struct):
    """What is in the state of an event."""

    id: UUID
    text: str | None
    raw: bytes
    metadata: str
    recorded_at: datetime
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: EncodedEvent) -> bytes:
        """Encode an event."""
        text = event.data if isinstance(event.data, str) else None
        raw = event.data if isinstance(event.data, bytes) else b""
        now, tags = datetime.now(UTC), tuple(event.tags)
        return msgspec.msgpack.encode(cls(event.id, text, raw, event.metadata, now, tags))


def _state(stored: StoredEvent) -> State:
    return msgspec.msgpack.decode(stored.state, type=State)


class RecorderEngine:
    """Writes with `insert_events`, reads with `select_events` and `select_notifications`."""

    def __init__(
        self,
        recorder: ApplicationRecorder,
        capabilities: frozenset[Capability],
        limitations: Mapping[Capability, str],
    ) -> None:
        self._recorder = recorder
        self.capabilities = capabilities
        self.limitations = limitations
        self.name = type(recorder).__name__
        self._known: dict[tuple[str, int], int] = {}
        self._scanned = 0

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """Write each commit by one call."""
        return [await to_thread.run_sync(self._commit, commit) for commit in batch]

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """Read a page, and the head."""
        return await to_thread.run_sync(self._translated, self._read_stream, query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """Read a page of notifications."""
        return await to_thread.run_sync(self._translated, self._read_all, query)

    async def close(self) -> None:
        """Leave the recorder to its owner."""

    def _translated(self, call: Any, query: Any) -> Any:
        try:
            return call(query)
        except PersistenceError as exc:
            message = f"{type(exc).__name__}: {exc}"
            raise StoreUnavailableError(message) from exc

    def _commit(self, commit: Commit) -> Outcome:
        for _ in range(_ATTEMPTS):
            planned = plan(commit, self._head, self._ids)
            if not isinstance(planned, list):
                return planned
            stored = [
                StoredEvent(write.stream, version, event.type, State.of(event))
                for write, first in zip(commit.writes, planned, strict=True)
                for version, event in enumerate(write.events, first)
            ]
            try:
                ids = list(self._recorder.insert_events(stored) or ())
            except IntegrityError:
                continue  # another one was faster
            except PersistenceError as exc:
                return Failed(StoreUnavailableError(f"{type(exc).__name__}: {exc}"))
            return Committed(_written(commit.writes, planned, ids, stored))
        return Failed(StoreUnavailableError("others were faster each time"))

    def _head(self, stream: str) -> int:
        newest = self._recorder.select_events(stream, desc=True, limit=1)
        return newest[0].originator_version if newest else 0

    def _ids(self, stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
        found = self._recorder.select_events(stream, gt=first - 1, lte=last)
        states = [_state(one) for one in found]
        places = self._places(stream, first, first + len(found) - 1)
        return [
            (state.id, places[one.originator_version], state.recorded_at)
            for one, state in zip(found, states, strict=True)
        ]

    def _places(self, stream: str, first: int, last: int) -> dict[int, int]:
        """Find the positions of a stream's events: only notifications have them."""
        wanted = range(first, last + 1)
        start = self._scanned
        while not all((stream, version) in self._known for version in wanted):
            page = self._recorder.select_notifications(start, _PAGE, inclusive_of_start=False)
            self._known.update({(str(n.originator_id), n.originator_version): n.id for n in page})
            if not page:
                break
            self._scanned = start = page[-1].id
        return {version: self._known[stream, version] for version in wanted}

    def _read_stream(self, query: StreamQuery) -> StreamPage:
        head = self._head(query.stream)
        wanted = query.clip(head)[:_PAGE]
        if not wanted:
            return StreamPage([], head)
        first, last = min(wanted), max(wanted)
        found = self._recorder.select_events(
            query.stream, gt=first - 1, lte=last, desc=query.backwards
        )
        places = self._places(query.stream, first, last)
        return StreamPage([_event(one, places[one.originator_version]) for one in found], head)

    def _read_all(self, query: AllQuery) -> AllPage:
        head = self._recorder.max_notification_id() or 0
        page = self._recorder.select_notifications(query.after, _PAGE, inclusive_of_start=False)
        page = [one for one in page if one.id <= head]
        events = [_event(one, one.id) for one in page]
        found = [one for one in events if query.matches(one.stream, one.type, one.tags)]
        events = found[: query.max_count]
        if len(found) > len(events):
            return AllPage(events, events[-1].position, head)
        return AllPage(events, page[-1].id if page else query.after, head)


def _event(stored: StoredEvent, position: int) -> Any:
    state = _state(stored)
    return decode_event(
        stream=str(stored.originator_id),
        version=stored.originator_version,
        position=position,
        type_=stored.topic,
        data=state.raw if state.text is None else state.text,
        metadata=state.metadata,
        id_=state.id,
        recorded_at=state.recorded_at,
        tags=state.tags,
    )


def _written(
    writes: Sequence[StreamWrite],
    firsts: Sequence[int],
    ids: Sequence[int],
    stored: Sequence[StoredEvent],
) -> list[Written]:
    written: list[Written] = []
    place = 0
    for write, first in zip(writes, firsts, strict=True):
        end = place + len(write.events)
        times = [_state(one).recorded_at for one in stored[place:end]]
        written.append(Written(first + len(write.events) - 1, ids[place:end], first == 1, times))
        place = end
    return written
