"""Carrying checkpoints in streams over to another store, whose positions are others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

from anyio import create_task_group
from msgspec import Struct, to_builtins
from msgspec.structs import replace

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


async def carry_checkpoints(
    source: EventStore, target: EventStore, translate: Translate
) -> list[CarriedCheckpoint]:
    """Give the target all checkpoints, dead letters and active generations of the source.

    Those are meant that are in streams: see `StreamCheckpoints`. Their leases are free in the
    target. What runners have written there themselves is left as it is. It can be done again.

    Args:
        source: A store that nobody writes to.
        target: A copy of it.
        translate: Turns the positions.
    """
    streams = await _names(source)
    carried: list[CarriedCheckpoint] = []

    async def work(stream: str) -> None:
        if (one := await _carry(source, target, stream, translate)) is not None:
            carried.append(one)

    try:
        async with create_task_group() as group:
            for stream in streams:
                group.start_soon(work, stream)
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from exc
    return sorted(carried, key=lambda one: one.projection)


async def _names(source: EventStore) -> list[str]:
    """Return the streams with checkpoints and active generations."""
    if Capability.CATALOGUE not in source.capabilities:
        async with aclosing(source.iterate_all(prefix=CHECKPOINTS)) as events:
            return sorted({event.stream async for event in events})
    names: list[str] = []
    more = True
    while more:
        after = names[-1] if names else None
        page = await source.streams(prefix=CHECKPOINTS, after=after, max_count=_PAGE)
        names += [info.stream for info in page]
        more = len(page) == _PAGE
    return names


async def _carry(
    source: EventStore, target: EventStore, stream: str, translate: Translate
) -> CarriedCheckpoint | None:
    """Carry a checkpoint over; return None if the stream says which generation is active."""
    found = await source.read(stream, backwards=True, max_count=2)
    there = await target.read(stream, backwards=True, max_count=1)
    last = next((event for event in found.events if event.type != ASKED), None)
    if last is None:
        return None
    if last.type == ACTIVATED:
        if not there.events:
            await target.append(stream, [NewEvent(ACTIVATED, last.data)], expected=0)
        return None
    kept = read_record(last, CHECKPOINT, Kept)
    position = await translate(kept.position)
    name = "@".join(parts_of(stream))
    is_own = bool(there.events) and there.events[0].metadata != _MARK
    if is_own:
        own = next((event for event in there.events if event.type == CHECKPOINT), None)
        stands = 0 if own is None else read_record(own, CHECKPOINT, Kept).position
        return CarriedCheckpoint(name, kept.position, stands, 0, is_own)
    letters = await _carry_letters(
        source, target, DEAD_LETTERS + stream.removeprefix(CHECKPOINTS), translate
    )
    event = kept.last_event
    if event is not None:
        event = replace(event, position=await translate(event.position))
    moved = Kept(position, None, event, id_of(target), kept.lease)
    if not there.events or read_record(there.events[0], CHECKPOINT, Kept) != moved:
        await target.append(stream, [checkpoint_event(moved, _MARK)], expected=there.version)
    return CarriedCheckpoint(name, kept.position, position, letters, is_own)


async def _carry_letters(
    source: EventStore, target: EventStore, stream: str, translate: Translate
) -> int:
    """Give the target the same dead letters as the source has; return how many."""
    wanted = {
        position: replace(letter, position=position)
        for letter in await read_letters(source, stream)
        for position in [await translate(letter.position)]
    }
    there = {letter.position: letter for letter in await read_letters(target, stream)}
    events = [
        NewEvent(RESOLVED, {"position": position}) for position in there.keys() - wanted.keys()
    ]
    events += [
        NewEvent(GIVEN_UP, to_builtins(letter))
        for position, letter in wanted.items()
        if there.get(position) != letter
    ]
    await target.append(stream, events)
    return len(wanted)
