"""The data of events gets into no log, no error text and no dead letter of a projection."""

from __future__ import annotations

import logging

from typing import Any

import pydantic
import pytest

from tests.toolkit.stages import QUICK, Stage

from eventport import NewEvent, RecordedEvent
from eventport.projections import (
    Projection,
    ProjectionContext,
    ProjectionId,
    ProjectionStoppedError,
)
from eventport.typed import EventTypes

from eventport_conformance.waiting import no_hang


SECRET = "ada.lovelace@example.org"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


async def test_an_error_that_cannot_be_printed_goes_to_the_dead_letters_or_stops(
    stage: Stage,
) -> None:
    (bad,) = await stage.append("order-1", "Poison")
    (good,) = await stage.append("order-1", "Added")

    def projection(**options: Any) -> Projection[Any]:
        made: Projection[Any] = Projection("unprintable", retries=QUICK, **options)

        @made.on_batch()
        async def handle(events: object, context: ProjectionContext[Any]) -> None:
            assert isinstance(events, list)
            if any(event.type == "Poison" for event in events):
                raise UnprintableError

        return made

    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await stage.runner(projection()).run()
    assert "UnprintableError" in str(caught.value)
    runner = await stage.run_until(projection(on_poison="dead_letter"), good)
    (letter,) = await stage.checkpoints.dead_letters(ProjectionId("unprintable", 1))
    assert letter.position == bad
    assert letter.error.startswith("UnprintableError")
    assert runner.position >= good


async def test_the_data_of_events_gets_into_no_log_no_error_text_and_no_dead_letter(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="eventport")
    await stage.store.append("user-1", [NewEvent("Registered", {"email": SECRET})])
    (good,) = await stage.append("user-1", "Added")

    def projection(**options: Any) -> Projection[Any]:
        made: Projection[Any] = Projection("users", retries=QUICK, **options)

        @made.on("Registered")
        async def registered(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            int(event.data["email"])

        @made.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None: ...

        return made

    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await stage.runner(projection()).run()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert SECRET in str(caught.value.__cause__)  # a debugger still finds it
    assert "ValueError in registered" in str(caught.value)
    await stage.run_until(projection(on_poison="dead_letter"), good)
    (letter,) = await stage.checkpoints.dead_letters(ProjectionId("users", 1))
    assert letter.error.startswith("ValueError in registered")
    assert caplog.records
    assert not [line for line in caplog.messages if SECRET in line]


class Registered(pydantic.BaseModel):
    email: str
    age: int


async def test_what_does_not_fit_its_class_is_no_reason_to_show_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    types = EventTypes[Registered](Registered)
    await stage.store.append("user-1", [NewEvent("Registered", {"email": SECRET})])
    projection: Projection[Any] = Projection(
        "typed", types=types, on_poison="dead_letter", retries=QUICK
    )

    @projection.on(Registered)
    async def registered(
        event: RecordedEvent[Registered], context: ProjectionContext[Any]
    ) -> None: ...

    last = (await stage.store.read("user-1")).events[-1].position
    await stage.run_until(projection, last)
    (letter,) = await stage.checkpoints.dead_letters(projection.id)
    assert letter.error.startswith("EventDataError")
    assert SECRET not in letter.error
    assert not [line for line in caplog.messages if SECRET in line]
