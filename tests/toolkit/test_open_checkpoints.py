"""Checkpoints that go with a store are at the place of that store, not at the default one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.toolkit.read_models import PLACES
from tests.toolkit.stages import QUICK, running

from eventport import NewEvent, RecordedEvent, connect
from eventport.projections import (
    Projection,
    ProjectionContext,
    ProjectionId,
    Retries,
    Runner,
    StreamCheckpoints,
    open_checkpoints,
    supervise,
)

from eventport_conformance.waiting import no_hang, until
from eventport_memory import MemoryEventStore


@pytest.mark.parametrize("database", PLACES)
async def test_without_a_target_they_are_where_the_store_is(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("EVENTPORT_URL", "memory://")
    place = PLACES[database](request)
    async with connect(place.url) as store:
        async with open_checkpoints(store) as checkpoints:
            assert not isinstance(checkpoints, StreamCheckpoints)
            lease = await checkpoints.acquire(ProjectionId("here", 1), "me", 15)
            assert lease is not None
            async with lease.advance(7):
                pass
        async with open_checkpoints(store, place.url) as named:
            assert (await named.load(ProjectionId("here", 1))).position == 7
        assert not (await store.read_all(prefix="eventport/")).events


async def test_without_a_place_for_them_they_are_streams_of_the_store() -> None:
    async with connect("sqlite://") as store, open_checkpoints(store) as checkpoints:
        assert await checkpoints.acquire(ProjectionId("here", 1), "me", 15) is not None
        assert (await store.read_all(prefix="eventport/")).events


async def test_in_memory_they_live_as_long_as_the_store() -> None:
    async with connect("memory://") as store:
        for position in (0, 7):
            async with open_checkpoints(store) as checkpoints:
                assert (await checkpoints.load(ProjectionId("here", 1))).position == position
                lease = await checkpoints.acquire(ProjectionId("here", 1), "me", 15)
                assert lease is not None
                async with lease.advance(7):
                    pass
        assert not (await store.read_all(prefix="eventport/")).events


async def test_a_supervised_runner_starts_again_after_an_error() -> None:
    async with MemoryEventStore() as store, open_checkpoints(store) as checkpoints:
        projection: Projection[Any] = Projection("mended", retries=QUICK)
        failing = True
        seen: list[int] = []

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            if failing:
                raise ValueError
            seen.append(event.position)

        result = await store.append("order-1", [NewEvent("Added", {})])
        runner = Runner(store, projection, checkpoints, lease=0.3)

        class Supervised(Runner[Any]):
            async def run(self) -> None:
                await supervise(runner, pauses=Retries(first_pause=0.2, max_pause=0.2))

        async with running(Supervised(store, projection, checkpoints)):
            # On a busy machine, it may have been started again, and fail again.
            await until(
                lambda: runner.state == "stopped" and "ValueError" in str(runner.error), "it stops"
            )
            failing = False
            await runner.wait_until(result.position or 0)
            assert runner.error is None
            assert runner.state != "stopped"
        assert seen == [result.position]


async def test_a_supervised_runner_ends_when_a_higher_generation_takes_its_place() -> None:
    async with MemoryEventStore() as store, open_checkpoints(store) as checkpoints:
        projection: Projection[Any] = Projection("old", retries=QUICK)

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None: ...

        await checkpoints.activate(ProjectionId("old", 2))
        runner = Runner(store, projection, checkpoints)
        with no_hang():
            await supervise(runner)
        assert runner.state == "retired"
