"""An engine over a store of `eventsource-py`.

A stream is an aggregate whose id is made of the stream's name; one class of events carries any
type and data, as fields of its own. The store decides on versions, ids, atomicity and order.
"""

from __future__ import annotations

import base64

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry
from eventsource.domain.exceptions import OptimisticLockError
from eventsource.ports import (
    EventEnvelope,
    ExpectedVersion,
    FeedReadOptions,
    Position,
    ReadDirection,
    StreamReadOptions,
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
    StoredIds,
    StreamPage,
    StreamQuery,
    Written,
    decode_event,
    plan,
)


_PAGE: Final = 500
_ATTEMPTS: Final = 1_000
_NAMES: Final = UUID("9f7c1b52-6a0e-4ac0-9d5c-6d1a4a7d2f10")


class Carried(DomainEvent):
    """Any event."""

    aggregate_type: str = "stream"
    stream: str
    name: str
    data: Any = None
    raw: str | None = None
    meta: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies it
    tags: tuple[str, ...] = ()


REGISTRY: Final = EventRegistry()
REGISTRY.register(Carried)


def _id(stream: str) -> StreamId:
    return StreamId(uuid5(_NAMES, stream), "stream")


def _carried(stream: str, event: EncodedEvent) -> Carried:
    is_bytes = isinstance(event.data, bytes)
    return Carried(
        event_id=event.id,
        aggregate_id=_id(stream).aggregate_id,
        stream=stream,
        name=event.type,
        data=None if is_bytes else msgspec.json.decode(event.data),
        raw=base64.b64encode(event.data).decode() if isinstance(event.data, bytes) else None,
        meta=msgspec.json.decode(event.metadata),
        tags=tuple(event.tags),
    )


class EventsourceEngine:
    """Writes with `append`, reads with `read_stream` and `read_all`."""

    capabilities = frozenset({Capability.GLOBAL_ORDER})

    def __init__(self, store: Any, capabilities: frozenset[Capability]) -> None:
        self._store = store
        self.capabilities = capabilities
        self.name = type(store).__name__
        self.limitations: Mapping[Capability, str] = {
            Capability.SESSIONS: "its append is about one stream",
            Capability.PUSH: "its feed is polled",
            Capability.SHARED: "its events live in one object",
            Capability.DURABLE: "its events live in memory",
            Capability.CATALOGUE: "it lists no streams",
            Capability.GUARDS: "what it checks is the version of a stream",
            Capability.CONDITIONS: "what it checks is the version of a stream",
            Capability.TIMES: "it records the times itself",
        }

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """Write each commit by one call."""
        return [await self._commit(commit) for commit in batch]

    async def _commit(self, commit: Commit) -> Outcome:
        stream = commit.writes[0].stream  # without sessions there is no other
        for _ in range(_ATTEMPTS):
            planned = plan(commit, *await self._known(commit))
            if not isinstance(planned, list):
                return planned
            events = [_carried(stream, event) for write in commit.writes for event in write.events]
            before = (
                ExpectedVersion.exact(planned[0] - 1)
                if planned[0] > 1
                else (ExpectedVersion.no_stream())
            )
            try:
                await self._store.append(_id(stream), events, before)
            except OptimisticLockError:
                continue  # another one was faster
            except Exception as exc:  # noqa: BLE001  # whatever it says is the peer's answer
                return Failed(StoreUnavailableError(f"{type(exc).__name__}: {exc}"))
            first, last = planned[0], planned[0] + len(events) - 1
            return _committed(commit, planned, await self._range_of(stream, first, last))
        return Failed(StoreUnavailableError("others were faster each time"))

    async def _known(
        self, commit: Commit
    ) -> tuple[Callable[[str], int], Callable[[str, int, int], StoredIds]]:
        """Fetch what a plan asks for: the head, and what an earlier try may have written."""
        write = commit.writes[0]
        head = await self._store.get_stream_version(_id(write.stream))
        first = write.expected + 1 if isinstance(write.expected, int) else 1
        last = first + sum(len(one.events) for one in commit.writes) - 1
        found = await self._range_of(write.stream, first, last) if head >= first else []
        ids = [(one.event.event_id, _key(one.position), one.stored_at) for one in found]
        return (lambda _: head), (lambda _, low, high: ids[low - first : high - first + 1])

    async def _range_of(self, stream: str, first: int, last: int) -> list[EventEnvelope]:
        options = StreamReadOptions(from_version=first, to_version=last)
        return [one async for one in self._store.read_stream(_id(stream), options)]

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """Read a page, and the head."""
        head = await self._store.get_stream_version(_id(query.stream))
        wanted = query.clip(head)[:_PAGE]
        if not wanted:
            return StreamPage([], head)
        direction = ReadDirection.BACKWARD if query.backwards else ReadDirection.FORWARD
        options = StreamReadOptions(direction, min(wanted), max(wanted))
        found = self._store.read_stream(_id(query.stream), options)
        return StreamPage([_event(one) async for one in found], head)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """Read a page of the feed."""
        current = await self._store.current_position()
        head = _key(current) if current is not None else 0
        after = Position(self._store.store_id, (query.after,))
        options = FeedReadOptions(limit=_PAGE)
        page = [one async for one in self._store.read_all(after, options)]
        page = [one for one in page if _key(one.position) <= head]
        events = [_event(one) for one in page]
        found = [one for one in events if query.matches(one.stream, one.type, one.tags)]
        if len(found) > query.max_count:
            found = found[: query.max_count]
            return AllPage(found, found[-1].position, head)
        return AllPage(found, _key(page[-1].position) if page else query.after, head)

    async def close(self) -> None:
        """Leave the store to its owner."""


def _committed(commit: Commit, firsts: Sequence[int], stored: Sequence[EventEnvelope]) -> Committed:
    """Return what was written, as it can be read."""
    written: list[Written] = []
    for write, first in zip(commit.writes, firsts, strict=True):
        new = stored[first - firsts[0] :][: len(write.events)]
        places, times = [_key(one.position) for one in new], [one.stored_at for one in new]
        written.append(Written(first + len(new) - 1, places, first == 1, times))
    return Committed(written)


def _key(position: Position | None) -> int:
    return int(position.key[0]) if position is not None else 0


def _event(found: EventEnvelope) -> Any:
    event = found.event
    assert isinstance(event, Carried)
    raw = None if event.raw is None else base64.b64decode(event.raw)
    return decode_event(
        stream=event.stream,
        version=found.stream_version,
        position=_key(found.position),
        type_=event.name,
        data=msgspec.json.encode(event.data).decode() if raw is None else raw,
        metadata=msgspec.json.encode(event.meta).decode(),
        id_=event.event_id,
        recorded_at=found.stored_at,
        tags=event.tags,
    )
