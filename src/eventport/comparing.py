"""Comparing a store with its copy, event by event, as far as the copy goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from hashlib import sha256
from typing import Any, Final

from msgspec.json import Encoder

from eventport.events import RecordedEvent
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import EventStore


_encode: Final = Encoder().encode


async def copied_events(
    store: EventStore, after: int, position: int | None = None
) -> AsyncGenerator[RecordedEvent, None]:
    """Go through the events that are copied, up to a position, or else to the head."""
    async with aclosing(store.iterate_all(after=after)) as events:
        async for event in events:
            if position is not None and event.position > position:
                return
            if not holds_positions(event.stream):
                yield event


class Comparison:
    """Goes through both stores side by side, and on from there when both have grown.

    Args:
        target: The store that is compared with what it was copied of.
        keeps_times: Whether `recorded_at` is compared, too.
    """

    def __init__(self, target: EventStore, *, keeps_times: bool) -> None:
        self._target = target
        self._keeps_times = keeps_times
        self._hashes = sha256(), sha256()
        self._end = 0
        """The position up to which the target was compared."""
        self.difference: str | None = None
        """What the first difference is, with stream and version; None if there is none."""

    @property
    def hashes(self) -> tuple[str, str]:
        """A SHA-256 of all events that were compared, of each store."""
        return self._hashes[0].hexdigest(), self._hashes[1].hexdigest()

    async def go_on(
        self, theirs: AsyncGenerator[RecordedEvent, None], progress: Callable[[int], object]
    ) -> None:
        """Compare further events of the source with all further ones of the target."""
        async with (
            aclosing(theirs),
            aclosing(copied_events(self._target, self._end)) as ours,
        ):
            while True:
                pair = await anext(theirs, None), await anext(ours, None)
                if pair == (None, None):
                    break
                self._compare(*pair)
                progress(1)

    def _compare(self, one: RecordedEvent | None, other: RecordedEvent | None) -> None:
        lines = [_line(event, keeps_times=self._keeps_times) for event in (one, other)]
        for hashed, line in zip(self._hashes, lines, strict=True):
            hashed.update(line)
        if other is not None:
            self._end = other.position
        if self.difference is None and lines[0] != lines[1]:
            self.difference = _difference(one, other, keeps_times=self._keeps_times)


def _line(event: RecordedEvent | None, *, keeps_times: bool) -> bytes:
    return b"" if event is None else _encode(_parts(event, keeps_times=keeps_times)) + b"\n"


def _parts(event: RecordedEvent, *, keeps_times: bool) -> dict[str, Any]:
    """Return all that a copy has to keep; bytes are not taken for their base64."""
    parts: dict[str, Any] = {
        "stream": event.stream,
        "version": event.version,
        "id": event.id,
        "type": event.type,
        "bytes" if isinstance(event.data, bytes) else "data": event.data,
        "metadata": event.metadata,
        "tags": sorted(event.tags),
    }
    if keeps_times:
        parts["recorded_at"] = event.recorded_at
    return parts


def _difference(
    one: RecordedEvent | None, other: RecordedEvent | None, *, keeps_times: bool
) -> str:
    """Say where two stores differ, without the data of an event."""
    if other is None:
        return f"the target lacks {_place(one)}"
    if one is None:
        return f"the target has {_place(other)} besides"
    if (one.stream, one.version) != (other.stream, other.version):
        return f"the target has {_place(other)} where the source has {_place(one)}"
    mine, theirs = (_parts(event, keeps_times=keeps_times) for event in (one, other))
    names = [
        name for name in mine if name not in theirs or _encode(mine[name]) != _encode(theirs[name])
    ]
    return f"{_place(one)} has another {names[0]} in the target"


def _place(event: RecordedEvent | None) -> str:
    return "" if event is None else f"version {event.version} of stream {event.stream!r}"
