"""What others reported of projections, replayed here.

The reports are listed in docs/reports-of-others.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from anyio import create_task_group, sleep
from tests.toolkit.stages import QUICK, Stage, open_stage, running

from eventport import InvalidStreamNameError, NewEvent, RecordedEvent
from eventport.projections import (
    Projection,
    ProjectionContext,
    ProjectionStoppedError,
    Runner,
    open_checkpoints,
    retry,
)
from eventport.read_models import ReadModel, open_read_models

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


@pytest.fixture(params=["memory", "streams of memory", "sqlite"])
async def stage(request: pytest.FixtureRequest) -> AsyncGenerator[Stage, None]:
    async with open_stage(request, request.param) as opened:
        yield opened


async def test_events_of_one_moment_are_all_handled_page_by_page(stage: Stage) -> None:
    """Neither time nor position is shared by two pages so that an event falls between them."""
    positions: list[int] = []
    for number in range(40):
        positions += await stage.append(f"order-{number % 7}", *["Added"] * 5)
    await stage.run_until(stage.projection(batch_size=3), positions[-1])
    assert await stage.model.noted() == positions


async def test_events_of_rivals_are_all_handled_while_they_are_written(stage: Stage) -> None:
    """What a slow writer commits late never lies before what was handled."""
    runner = stage.runner(stage.projection(batch_size=10))
    async with running(runner):
        async with create_task_group() as group:
            for number in range(30):
                group.start_soon(stage.append, f"order-{number}", "Added", "Added")
        positions = [
            event.position for event in (await stage.store.read_all(types=["Added"])).events
        ]
        await runner.wait_until(positions[-1])
    assert await stage.model.noted() == positions
    assert len(positions) == 60


async def test_a_handler_that_always_fails_is_not_called_without_end(stage: Stage) -> None:
    good = await stage.append("order-1", "Added", "Added")
    (bad,) = await stage.append("order-1", "Poison")
    await stage.append("order-1", "Added")
    calls: list[int] = []
    projection: Projection[Any] = Projection("failing", retries=QUICK)
    projection.prepare(stage.model.prepare)

    @projection.on("Added", "Poison")
    async def handle(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        if event.type == "Poison":
            calls.append(event.position)
            raise KeyError("customer")
        await stage.model.note([event], context)

    with no_hang(), pytest.raises(ProjectionStoppedError):
        await stage.runner(projection).run()
    assert calls.count(bad) == 1 + 3, "once in its batch, and three times alone"
    checkpoint = await stage.checkpoints.load(projection.id)
    assert checkpoint.position == good[-1]


async def test_of_a_page_only_the_event_that_fails_is_left_out_and_no_other_projection_suffers(
    stage: Stage,
) -> None:
    positions = await stage.append("order-1", "Added", "Poison", "Added", "Poison", "Added")
    broken: list[bool] = [True]
    failing: Projection[Any] = Projection("failing", on_poison="dead_letter", retries=QUICK)
    failing.prepare(stage.model.prepare)

    @failing.on_batch()
    async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        await stage.model.note(events, context)
        if broken[0] and any(event.type == "Poison" for event in events):
            raise KeyError("customer")

    other_seen: list[int] = []
    other: Projection[Any] = Projection("other", retries=QUICK)

    @other.on("Added", "Poison")
    async def see(event: RecordedEvent, _: ProjectionContext[Any]) -> None:
        other_seen.append(event.position)

    one, two = stage.runner(failing), stage.runner(other)
    async with running(one, two):
        await one.wait_until(positions[-1])
        await two.wait_until(positions[-1])
    assert other_seen == positions
    letters = await stage.checkpoints.dead_letters(failing.id)
    assert [letter.position for letter in letters] == [positions[1], positions[3]]
    broken[0] = False
    for letter in letters:
        await retry(stage.store, failing, stage.checkpoints, letter.position)
    assert await stage.checkpoints.dead_letters(failing.id) == []


async def test_a_rebuild_is_of_one_projection_and_may_be_repeated(stage: Stage) -> None:
    """What is added between two rebuilds, and what another projection holds, stays."""
    expected = await stage.append("order-1", "Added", "Added")
    seen: list[tuple[str, int]] = []

    def projection(name: str, generation: int) -> Projection[Any]:
        made: Projection[Any] = Projection(name, generation=generation, retries=QUICK)

        @made.on("Added")
        async def handle(event: RecordedEvent, _: ProjectionContext[Any]) -> None:
            seen.append((f"{name}@{generation}", event.position))

        return made

    await stage.run_until(projection("one", 1), expected[-1])
    await stage.run_until(projection("two", 1), expected[-1])
    for generation in (2, 3):
        expected += await stage.append("order-1", "Added")
        runner = stage.runner(projection("two", generation))
        async with running(runner):
            await runner.wait_until(expected[-1])
            while await stage.checkpoints.active("two") != generation:  # noqa: ASYNC110  # none
                await sleep(0.005)
        await stage.run_until(projection("one", 1), expected[-1])
    for key, positions in (("one@1", expected), ("two@2", expected[:3]), ("two@3", expected)):
        assert [position for name, position in seen if name == key] == positions
    async with running(stage.runner(projection("one", 1))):
        while await stage.checkpoints.active("one") != 1:  # noqa: ASYNC110  # as above
            await sleep(0.005)


async def test_a_projection_of_some_streams_sees_no_others_and_catches_up_behind_them(
    stage: Stage,
) -> None:
    own = await stage.append("order-1", "Added")
    foreign = await stage.append("order_1", *["Added"] * 50)
    runner = stage.runner(stage.projection("Added", prefix="order-"))
    async with running(runner):
        await runner.wait_until(foreign[-1])
        progress = await runner.progress()
    assert (progress.lag, await stage.model.noted()) == (0, own)


async def test_nobody_writes_into_the_streams_that_checkpoints_are_kept_in(stage: Stage) -> None:
    positions = await stage.append("order-1", "Added")
    projection = stage.projection()
    await stage.run_until(projection, positions[-1])
    for stream in ("eventport/projection/noted/1", "eventport/dead-letters/noted/1"):
        with pytest.raises(InvalidStreamNameError):
            await stage.store.append(stream, [NewEvent("Stray", 1)])
    positions += await stage.append("order-1", "Added")
    await stage.run_until(projection, positions[-1])
    assert await stage.model.noted() == positions


@dataclass
class House:
    stars: int = 0
    rates: int = 0


async def test_a_handler_reads_what_it_wrote_for_earlier_events_of_the_page() -> None:
    """Deleted and written in one page, by rates that depend on each other; and rebuilt alike."""
    houses = ReadModel("houses", House)

    def projection(generation: int) -> Projection[Any]:
        made: Projection[Any] = Projection("houses", generation=generation, retries=QUICK)

        @made.on_batch()
        async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
            model = houses.within(context)
            for event in events:
                if event.type == "Removed":
                    await model.delete(event.stream)
                    continue
                house = await model.get(event.stream) or House()
                house.stars += event.data
                house.rates += 1
                await model.put(event.stream, house)

        return made

    async with (
        MemoryEventStore() as store,
        open_checkpoints(store) as checkpoints,
        open_read_models(store) as reader,
    ):
        events = [NewEvent("Rated", 5), NewEvent("Removed", 0), NewEvent("Rated", 3)]
        events += [NewEvent("Rated", 4)]
        position = (await store.append("house-1", events)).position or 0
        await store.append("house-2", [NewEvent("Rated", 1), NewEvent("Removed", 0)])
        position = (await store.read_all()).position
        for generation in (1, 2):
            runner = Runner(store, projection(generation), checkpoints)
            async with running(runner):
                await runner.wait_until(position)
            model = houses.read(reader, generation=generation)
            assert await model.get("house-1") == House(7, 2)
            assert await model.get("house-2") is None
