"""Events that a projection's handler cannot handle: it stops, tries again, or sets them aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.toolkit.stages import QUICK, Stage

from eventport import RecordedEvent
from eventport.errors import StoreUnavailableError
from eventport.projections import (
    NoDeadLetterError,
    Projection,
    ProjectionContext,
    ProjectionId,
    ProjectionStoppedError,
    discard,
    retry,
)

from eventport_conformance.waiting import no_hang


def failing(
    stage: Stage, fails: Callable[[RecordedEvent], Exception | None], **options: Any
) -> Projection[Any]:
    """Make a projection that notes each event in batches, and may fail after that."""
    projection: Projection[Any] = Projection("noted", retries=QUICK, **options)
    projection.prepare(stage.model.prepare)

    @projection.on_batch()
    async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        for event in events:
            if error := fails(event):
                raise error
        await stage.model.note(events, context)

    return projection


def poison(event: RecordedEvent) -> Exception | None:
    return RuntimeError("cannot be digested: \udc80\0") if event.type == "Poison" else None


async def test_a_poison_event_stops_the_projection_right_before_it(stage: Stage) -> None:
    before = await stage.append("order-1", "Added", "Added")
    (bad,) = await stage.append("order-2", "Poison")
    after = await stage.append("order-1", "Added")
    runner = stage.runner(failing(stage, poison))
    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await runner.run()
    assert caught.value.event.position == bad
    assert caught.value.attempts == 3
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert f"noted@1 stopped at position {bad}" in str(caught.value)
    assert await stage.model.noted() == before
    assert (await runner.progress()).state == "stopped"
    assert await stage.checkpoints.dead_letters(ProjectionId("noted", 1)) == []
    # The lease is free, and a handler that has been mended goes on at this event.
    await stage.run_until(stage.projection(), after[-1])
    assert await stage.model.noted() == [*before, bad, *after]


async def test_a_poison_event_goes_to_the_dead_letters_and_can_be_retried_or_discarded(
    stage: Stage,
) -> None:
    good = await stage.append("order-1", "Added", "Added")
    bad = await stage.append("order-2", "Poison", "Poison")
    good += await stage.append("order-1", "Added")
    projection = failing(stage, poison, on_poison="dead_letter")
    await stage.run_until(projection, good[-1])
    assert await stage.model.noted() == good
    letters = await stage.checkpoints.dead_letters(projection.id)
    assert [letter.position for letter in letters] == bad
    assert letters[0].stream == "order-2"
    assert [letter.version for letter in letters] == [1, 2]
    assert {letter.type for letter in letters} == {"Poison"}
    assert {letter.attempts for letter in letters} == {3}
    assert letters[0].error.startswith("RuntimeError in handle, test_poison_events.py:")
    # Nothing is lost when the retry fails, too.
    with pytest.raises(RuntimeError, match="digested"):
        await retry(stage.store, projection, stage.checkpoints, bad[0])
    assert await stage.checkpoints.dead_letters(projection.id) == letters
    await retry(stage.store, stage.projection(), stage.checkpoints, bad[0])
    assert await stage.model.noted() == [*good, bad[0]]
    assert await stage.checkpoints.dead_letters(projection.id) == letters[1:]
    await discard(projection, stage.checkpoints, bad[1])
    assert await stage.checkpoints.dead_letters(projection.id) == []
    for position in (bad[1], good[0]):
        with pytest.raises(NoDeadLetterError, match=str(position)):
            await retry(stage.store, projection, stage.checkpoints, position)
        with pytest.raises(NoDeadLetterError, match=str(position)):
            await discard(projection, stage.checkpoints, position)


async def test_what_fails_now_and_then_is_tried_again(stage: Stage) -> None:
    expected = await stage.append("order-1", *["Added"] * 5)
    failures = dict.fromkeys(expected[1:4:2], 2)

    def fails(event: RecordedEvent) -> Exception | None:
        if not failures.get(event.position):
            return None
        failures[event.position] -= 1
        return RuntimeError("not now")

    await stage.run_until(failing(stage, fails), expected[-1])
    assert await stage.model.noted() == expected
    assert not any(failures.values())


async def test_an_outage_is_no_fault_of_an_event(stage: Stage) -> None:
    expected = await stage.append("order-1", *["Added"] * 5)
    outages = [StoreUnavailableError("gone for a while")] * 10

    def fails(_: RecordedEvent) -> Exception | None:
        return outages.pop() if outages else None

    await stage.run_until(failing(stage, fails, on_poison="dead_letter"), expected[-1])
    assert await stage.model.noted() == expected
    assert outages == []
    assert await stage.checkpoints.dead_letters(ProjectionId("noted", 1)) == []
