"""Projections on every backend, with every kind of checkpoint: what handlers get, and when."""

from __future__ import annotations

import time

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from anyio import Event, create_task_group, move_on_after, sleep
from anyio.lowlevel import checkpoint
from tests.toolkit.stages import QUICK, Stage, running

from eventport import NewEvent, RecordedEvent
from eventport.projections import (
    LeaseLostError,
    Projection,
    ProjectionContext,
    ProjectionId,
    find_head,
    wait_until,
)
from eventport.typed import EventTypes

from eventport_conformance.waiting import no_hang, until


async def test_each_event_is_handled_once_and_in_order_over_restarts(stage: Stage) -> None:
    projection = stage.projection("Added", "Taken")
    expected: list[int] = []
    for round_ in range(3):
        for number in range(4):
            expected += await stage.append(f"stock-{number}", "Added", "Taken", "Added")
            await stage.append(f"stock-{number}", "Counted")
        last = expected[-1]
        if round_ == 1:
            runner = stage.runner(projection)
            async with running(runner):
                expected += await stage.append("stock-9", "Taken")  # while it runs
                last = expected[-1]
                await runner.wait_until(last)
        else:
            await stage.run_until(projection, last)
        assert await stage.model.noted() == expected
        assert (await stage.checkpoints.load(projection.id)).position >= last
    assert (await stage.checkpoints.load(projection.id)).owner is None


async def test_a_batch_is_what_is_there_up_to_its_size(stage: Stage) -> None:
    expected = [p for n in range(5) for p in await stage.append(f"stock-{n}", *["Added"] * 10)]
    sizes: list[int] = []
    projection: Projection[Any] = Projection("sizes", batch_size=7)
    projection.prepare(stage.model.prepare)

    @projection.on_batch("Added")
    async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        sizes.append(len(events))
        await stage.model.note(events, context)

    runner = stage.runner(projection)
    async with running(runner):
        await runner.wait_until(expected[-1])
        assert await stage.model.noted() == expected
        assert max(sizes) == 7
        (alone,) = await stage.append("stock-9", "Added")
        await runner.wait_until(alone)  # nothing waits for a batch to become full
    assert sizes[-1] == 1


async def test_streams_can_be_selected_by_their_prefix(stage: Stage) -> None:
    await stage.append("order-1", "Added")
    expected = await stage.append("stock-1", "Added")
    last = await stage.append("order-2", "Added")
    await stage.run_until(stage.projection("Added", prefix="stock-"), last[-1])
    assert await stage.model.noted() == expected


async def test_the_toolkits_own_streams_are_left_out_unless_asked_for(stage: Stage) -> None:
    own = await stage.append("eventport/command/1", "eventport.Command")
    expected = await stage.append("order-1", "Added")
    await stage.run_until(stage.projection(), expected[-1])
    assert await stage.model.noted() == expected
    asked = stage.projection(name="asked", generation=2, prefix="eventport/command/")
    await stage.run_until(asked, expected[-1])
    assert await stage.model.noted(2) == own


async def test_checkpoints_are_no_reason_for_more_checkpoints(stage: Stage) -> None:
    runners = [stage.runner(stage.projection(name=name), lease=0.6) for name in ("a", "b", "c")]
    (last,) = await stage.append("order-1", "Added")
    async with running(*runners):
        for runner in runners:
            await runner.wait_until(last)
        before = await find_head(stage.store)
        count = len((await stage.store.read_all(after=before)).events)
        begin = time.monotonic()
        await sleep(1)
        written = len((await stage.store.read_all(after=before)).events) - count
        signs = (time.monotonic() - begin) / 0.2 + 1
    # Every 0.2 s a sign of life of each; three projections that chased each other would write
    # hundreds. On a busy machine there are fewer.
    assert written <= 3 * signs


async def test_one_can_wait_for_a_position_here_and_elsewhere(stage: Stage) -> None:
    runner, other = (stage.runner(stage.projection("Added"), lease=0.6) for _ in range(2))
    with move_on_after(0.2) as too_early:
        await wait_until(stage.checkpoints, "noted", 1)
    assert too_early.cancelled_caught
    async with running(runner):
        for number in range(5):
            (added,) = await stage.append(f"order-{number}", "Added")
            await other.wait_until(added)
            assert added in await stage.model.noted()
            await wait_until(stage.checkpoints, "noted", added)
            # It is no event of the projection's, but passed.
            (counted,) = await stage.append(f"order-{number}", "Counted")
            await runner.wait_until(counted)
        (counted,) = await stage.append("order-9", "Counted")
        await wait_until(stage.checkpoints, "noted", counted)  # with the next sign of life
        with move_on_after(0.2) as never:
            await runner.wait_until(counted + 10**9)
    assert never.cancelled_caught


async def test_progress_reports_position_and_lag(stage: Stage) -> None:
    expected = await stage.append("order-1", *["Added"] * 20)
    runner = stage.runner(stage.projection("Added"))
    progress = await runner.progress()
    assert (progress.state, progress.position, progress.handled) == ("waiting", 0, 0)
    assert progress.lag == progress.head >= expected[-1]
    assert not progress.caught_up
    async with running(runner):
        await until(lambda: runner.state == "live", "it catches up")
        progress = await runner.progress()
        assert progress.caught_up
        assert progress.handled == 20
        assert progress.rate > 0
        assert progress.position >= expected[-1]
    assert await stage.checkpoints.active("noted") == 1


async def test_the_next_runner_takes_over_when_one_ends_and_when_one_falls_silent(
    stage: Stage,
) -> None:
    projection = stage.projection("Added")
    begin = time.monotonic()
    silent = await stage.checkpoints.acquire(projection.id, "silent", 0.4)
    assert silent is not None
    (first,) = await stage.append("order-1", "Added")
    # Theirs last longer than a busy machine pauses.
    runners = [stage.runner(projection, lease=8) for _ in range(2)]
    async with running(runners[0]):
        with no_hang():
            await runners[0].wait_until(first)
        assert time.monotonic() - begin > 0.35, "it did not wait for the lease of the silent one"
        async with running(runners[1]):
            await sleep(0.6)
            assert (await runners[1].progress()).state == "waiting"
            assert (await stage.checkpoints.load(projection.id)).owner == runners[0].owner
    (second,) = await stage.append("order-1", "Added")
    async with running(runners[1]):
        await runners[1].wait_until(second)
    assert await stage.model.noted() == [first, second]


async def test_a_runner_that_lost_the_lease_changes_nothing(stage: Stage) -> None:
    projection = stage.projection("Added")
    expected = await stage.append("order-1", "Added", "Added")
    event = (await stage.store.read("order-1")).events[0]
    old = await stage.checkpoints.acquire(projection.id, "old", 0.05)
    assert old is not None
    async with old.advance(0) as connection:
        await stage.model.prepare(ProjectionContext(connection, 1))
    runner = stage.runner(projection, lease=8)
    async with running(runner):
        await runner.wait_until(expected[-1])
    assert (await stage.checkpoints.load(projection.id)).position >= expected[-1]
    model = await stage.model.noted()

    async def write() -> None:
        async with old.advance(event.position) as connection:
            if connection is not None:  # what has no transaction cannot be undone
                await stage.model.note([event], ProjectionContext(connection, 1))

    with pytest.raises(LeaseLostError, match="noted@1"):
        await write()
    with pytest.raises(LeaseLostError):
        await old.renew(event.position)
    assert await stage.checkpoints.acquire(projection.id, "new", 5) is not None
    await old.release()
    assert (await stage.checkpoints.load(projection.id)).owner == "new"
    assert await stage.model.noted() == model == expected
    assert (await stage.checkpoints.load(projection.id)).position >= expected[-1]


async def test_a_renewal_never_moves_a_checkpoint_back(stage: Stage) -> None:
    lease = await stage.checkpoints.acquire(ProjectionId("noted", 1), "me", 10)
    assert lease is not None
    async with lease.advance(7):
        pass
    await lease.renew(3)
    checkpoint = await stage.checkpoints.load(ProjectionId("noted", 1))
    assert (checkpoint.position, checkpoint.owner) == (7, "me")
    assert await stage.checkpoints.acquire(ProjectionId("noted", 1), "you", 10) is None
    again = await stage.checkpoints.acquire(ProjectionId("noted", 1), "me", 10)
    assert again is not None
    assert again.checkpoint.position == 7
    await again.release()
    assert await stage.checkpoints.acquire(ProjectionId("noted", 1), "you", 10) is not None


async def test_what_fails_leaves_neither_checkpoint_nor_model(stage: Stage) -> None:
    lease = await stage.checkpoints.acquire(ProjectionId("noted", 1), "me", 10)
    assert lease is not None
    with pytest.raises(KeyError):
        async with lease.advance(7):
            raise KeyError
    assert (await stage.checkpoints.load(ProjectionId("noted", 1))).position == 0
    async with lease.advance(8):  # it is usable
        pass
    assert (await stage.checkpoints.load(ProjectionId("noted", 1))).position == 8


async def test_a_generation_is_built_beside_the_active_one_which_ends_then(stage: Stage) -> None:
    expected = await stage.append("order-1", *["Added"] * 20)
    # A lease that is lost is one more handling of a batch where there is no transaction.
    old = stage.runner(stage.projection("Added"), lease=3)
    new = stage.runner(stage.projection("Added", generation=2, batch_size=3), lease=3)
    ended = Event()

    async def run_old() -> None:
        await old.run()
        ended.set()

    with no_hang():
        async with create_task_group() as group:
            group.start_soon(run_old)
            await old.wait_until(expected[-1])
            while await stage.checkpoints.active("noted") != 1:
                await checkpoint()  # it becomes active soon after it has caught up
            group.start_soon(new.run)
            while await stage.checkpoints.active("noted") == 1:
                expected += await stage.append("order-2", "Added")
            complete = await stage.model.noted(2)
            assert complete == expected[: len(complete)]
            assert len(complete) >= 20
            await ended.wait()
            expected += await stage.append("order-2", "Added")
            await new.wait_until(expected[-1])
            assert (await old.progress()).state == "retired"
            group.cancel_scope.cancel()
    assert await stage.model.noted(2) == expected
    assert await stage.model.noted(1) == expected[: len(await stage.model.noted(1))]
    await old.run()  # the old program ends at once
    await stage.checkpoints.activate(ProjectionId("noted", 1))  # there is no way back
    assert await stage.checkpoints.active("noted") == 2


@dataclass
class Placed:
    total: int


@dataclass
class Shipped:
    carrier: str


async def test_handlers_can_be_registered_for_classes(stage: Stage) -> None:
    types = EventTypes[Placed | Shipped](Placed, Shipped)
    await stage.store.append("order-1", [types.new(Placed(3)), types.new(Shipped("dhl"))])
    await stage.store.append("order-1", [NewEvent("Paid", {}), NewEvent("Placed", {"totl": 3})])
    (last,) = await stage.append("order-1", "Paid")
    seen: list[object] = []
    projection: Projection[Any] = Projection(
        "typed", types=types, on_poison="dead_letter", retries=QUICK
    )

    @projection.on(Placed)
    async def placed(event: RecordedEvent[Placed], context: ProjectionContext[Any]) -> None:
        seen.append(event.data.total)

    @projection.on(Shipped)
    async def shipped(event: RecordedEvent[Shipped], context: ProjectionContext[Any]) -> None:
        seen.append(event.data.carrier)

    @projection.on("Paid")
    async def paid(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        seen.append(event.data)

    await stage.run_until(projection, last)
    assert seen == [3, "dhl", {}, {"n": 0}]
    letters = await stage.checkpoints.dead_letters(projection.id)
    assert [letter.version for letter in letters] == [4]
