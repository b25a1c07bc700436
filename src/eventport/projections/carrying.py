"""Carrying checkpoints in streams over to another store, whose positions are others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, TypeAlias

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from eventport._concurrency.gathering import gather
from eventport.events import NewEvent
from eventport.projections.resuming import id_of
from eventport.projections.stream_checkpoints import (
    ACTIVATED,
    ASKED,
    CHECKPOINT,
    CHECKPOINTS,
    DEAD_LETTERS,
    GIVEN_UP,
    RESOLVED,
    Kept,
    checkpoint_event,
    read_letters,
)
from eventport.protocols import Capability, EventStore
from eventport.toolkit_streams import parts_of, read_record


Translate: TypeAlias = Callable[[int], Awaitable[int]]
"""Returns the position of the target that stands for one of the source."""

_MARK: Final = {"carried": True}
"""The metadata of checkpoints that were carried over, and that no runner has written since."""

_PAGE: Final = 1_000


class CarriedCheckpoint(Struct, frozen=True):
    """What became of a checkpoint of the source."""

    projection: str
    """The projection or reactor, with its generation, as in ``cases@2``."""
    source_position: int
    """Where it stood in the source."""
    target_position: int
    """Where it stands in the target."""
    dead_letters: int
    """How many dead letters came with it."""
    is_own: bool
    """Whether the target had a checkpoint of its own, which was left as it is."""


class Carrying:
    """Gives the target all checkpoints, dead letters and active generations of the source.

    Those are meant that are in streams: see `StreamCheckpoints`. Their leases are free in the
    target. What runners have written there themselves is left as it is.

    Args:
        source: Where from.
        target: A copy of it.
        translate: Turns the positions.
    """

    def __init__(self, source: EventStore, target: EventStore, translate: Translate) -> None:
        self._source = source
        self._target = target
        self._translate = translate
        self._seen: dict[str, tuple[int | None, int | None]] = {}
        self._carried: dict[str, CarriedCheckpoint] = {}
        self._until: int | None = None

    async def go_on(self, until: int | None = None) -> list[CarriedCheckpoint]:
        """Carry over what has changed since the last time, and return all that was carried.

        Args:
            until: Leave out, for now, what is beyond this position of the source, whose events the
                target does not have yet. None if it has all of them.
        """
        self._until = until
        streams, letters = await gather(
            partial(_versions, self._source), [CHECKPOINTS, DEAD_LETTERS]
        )

        async def carry(stream: str) -> None:
            of_letters = DEAD_LETTERS + stream.removeprefix(CHECKPOINTS)
            seen = streams[stream], letters.get(of_letters, 0)
            if None in seen or self._seen.get(stream) != seen:
                with suppress(_AheadError):
                    await self._carry(stream, of_letters if of_letters in letters else None)
                    self._seen[stream] = seen

        await gather(carry, streams)
        return sorted(self._carried.values(), key=lambda one: one.projection)

    async def _carry(self, stream: str, of_letters: str | None) -> None:
        found = await self._source.read(stream, backwards=True, max_count=2)
        there = await self._target.read(stream, backwards=True, max_count=1)
        last = next((event for event in found.events if event.type != ASKED), None)
        if last is None:
            return
        if last.type == ACTIVATED:
            if not there.events:
                await self._target.append(stream, [NewEvent(ACTIVATED, last.data)], expected=0)
            return
        kept = read_record(last, CHECKPOINT, Kept)
        name = "@".join(parts_of(stream))
        if there.events and there.events[0].metadata != _MARK:
            stands = await self._own_position(stream)
            self._carried[stream] = CarriedCheckpoint(name, kept.position, stands, 0, is_own=True)
            return
        count = 0 if of_letters is None else await self._carry_letters(of_letters)
        position = await self._place(kept.position)
        event = kept.last_event
        if event is not None:
            same = event.position == kept.position
            event = replace(event, position=position if same else await self._place(event.position))
        moved = Kept(position, None, event, id_of(self._target), kept.partitions, kept.lease)
        if not there.events or read_record(there.events[0], CHECKPOINT, Kept) != moved:
            new = checkpoint_event(moved, _MARK)
            await self._target.append(stream, [new], expected=there.version)
        self._carried[stream] = CarriedCheckpoint(
            name, kept.position, position, count, is_own=False
        )

    async def _own_position(self, stream: str) -> int:
        found = await self._target.read(stream, backwards=True, max_count=2)
        own = next((event for event in found.events if event.type == CHECKPOINT), None)
        return 0 if own is None else read_record(own, CHECKPOINT, Kept).position

    async def _carry_letters(self, stream: str) -> int:
        """Give the target the same dead letters as the source has; return how many."""
        wanted = {
            position: replace(letter, position=position)
            for letter in await read_letters(self._source, stream)
            for position in [await self._place(letter.position)]
        }
        there = {letter.position: letter for letter in await read_letters(self._target, stream)}
        events = [
            NewEvent(RESOLVED, {"position": position}) for position in there.keys() - wanted.keys()
        ]
        events += [
            NewEvent(GIVEN_UP, to_builtins(letter))
            for position, letter in wanted.items()
            if there.get(position) != letter
        ]
        if events:
            await self._target.append(stream, events)
        return len(wanted)

    async def _place(self, position: int) -> int:
        if self._until is not None and position > self._until:
            raise _AheadError
        return await self._translate(position)


class _AheadError(Exception):
    """The target does not have the event of a position yet."""


async def _versions(source: EventStore, prefix: str) -> dict[str, int | None]:
    """Return the streams that begin with a prefix, and their versions where they are known."""
    if Capability.CATALOGUE not in source.capabilities:
        async with aclosing(source.iterate_all(prefix=prefix)) as events:
            return dict.fromkeys([event.stream async for event in events])
    versions: dict[str, int | None] = {}
    after: str | None = None
    more = True
    while more:
        page = await source.streams(prefix=prefix, after=after, max_count=_PAGE)
        versions |= {info.stream: info.version for info in page}
        more = len(page) == _PAGE
        after = page[-1].stream if page else None
    return versions
