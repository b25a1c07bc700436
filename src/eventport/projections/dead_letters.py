"""What to do about events that a projection has skipped: handle them again, or discard them."""

from __future__ import annotations

from typing import Any, TypeVar

from eventport.projections.checkpoints import CheckpointStore
from eventport.projections.projection import Projection
from eventport.projections.refusals import NoDeadLetterError
from eventport.protocols import EventStore


C = TypeVar("C")


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
    letters = {letter.position: letter for letter in await checkpoints.dead_letters(projection.id)}
    if position not in letters:
        raise NoDeadLetterError(projection.id, position)
    letter = letters[position]
    found = await store.read(letter.stream, from_version=letter.version, to_version=letter.version)
    async with checkpoints.resolve(projection.id, position) as connection:
        await projection.handle(found.events, projection.context(checkpoints, connection))


async def discard(
    projection: Projection[Any], checkpoints: CheckpointStore[Any], position: int
) -> None:
    """Remove an event from the dead letters.

    Raises:
        NoDeadLetterError: there is none for this position.
    """
    async with checkpoints.resolve(projection.id, position):
        pass
