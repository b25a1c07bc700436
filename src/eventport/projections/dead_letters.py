"""What to do about events that a projection has skipped: handle them again, or discard them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from eventport.projections.checkpoints import CheckpointStore, DeadLetter, ProjectionId
from eventport.projections.projection import Projection
from eventport.projections.refusals import NoDeadLetterError
from eventport.protocols import EventStore


C = TypeVar("C")


async def list_dead_letters(
    projection: Projection[C], checkpoints: CheckpointStore[C]
) -> list[DeadLetter]:
    """List the events that a projection has given up, in any of its parts, in their order."""
    letters: dict[int, DeadLetter] = {}
    for part in projection.parts:
        letters |= {letter.position: letter for letter in await checkpoints.dead_letters(part)}
    return [letters[position] for position in sorted(letters)]


async def retry(
    store: EventStore,
    projection: Projection[C],
    checkpoints: CheckpointStore[C],
    position: int,
) -> None:
    """Handle an event that was given up once more, and remove it from the dead letters.

    What the handler writes and the list change in one transaction, if the checkpoint store has
    them. If the handler raises, so does this, and the event stays on the list. The projection may
    run meanwhile, and later events have been handled before this one.

    Args:
        store: Where the events are.
        projection: What handles them.
        checkpoints: Where the list is.
        position: Which event, as `DeadLetter.position` says.

    Raises:
        NoDeadLetterError: there is none for this position.
    """
    holders = await _holders(projection, checkpoints, position)
    letter = next(iter(holders.values()))
    found = await store.read(letter.stream, from_version=letter.version, to_version=letter.version)
    for event in found.events:
        part = projection.parts[projection.part_of(event)]
        if part in holders:  # otherwise it has a key by now, and its part handles it
            async with checkpoints.resolve(part, position) as connection:
                await projection.handle([event], projection.context(checkpoints, connection))
            del holders[part]
    await _drop(holders, checkpoints, position)


async def discard(
    projection: Projection[Any], checkpoints: CheckpointStore[Any], position: int
) -> None:
    """Remove an event from the dead letters.

    Raises:
        NoDeadLetterError: there is none for this position.
    """
    await _drop(await _holders(projection, checkpoints, position), checkpoints, position)


async def _holders(
    projection: Projection[Any], checkpoints: CheckpointStore[Any], position: int
) -> dict[ProjectionId, DeadLetter]:
    """Return the parts that gave up an event: one, or all if its key could not be found."""
    holders = {
        part: letter
        for part in projection.parts
        for letter in await checkpoints.dead_letters(part)
        if letter.position == position
    }
    if not holders:
        raise NoDeadLetterError(projection.id, position)
    return holders


async def _drop(
    holders: Iterable[ProjectionId], checkpoints: CheckpointStore[Any], position: int
) -> None:
    for part in holders:
        async with checkpoints.resolve(part, position):
            pass
