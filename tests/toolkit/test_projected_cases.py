"""A table of cases by their current step, projected from a log of events, equals a plain fold."""

from __future__ import annotations

import gzip
import json
import random

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from anyio import CapacityLimiter, create_task_group
from tests.toolkit.read_models import PLACES, execute

from eventport import EventStore, NewEvent, RecordedEvent, connect
from eventport.projections import Projection, ProjectionContext, Runner, open_checkpoints

from eventport_conformance.waiting import no_hang


# A process log of some thousand real events may lie beside the checkout.
REAL: Final = Path(__file__).parents[3] / "shared" / "data" / "receipt.ndjson.gz"
STEPS: Final = ("Receive", "Check", "Ask for more", "Decide", "Notify")


def made_up() -> list[tuple[str, str]]:
    chosen = random.Random(7)
    return [(f"case-{chosen.randrange(60)}", chosen.choice(STEPS)) for _ in range(600)]


def real() -> list[tuple[str, str]]:
    with gzip.open(REAL) as lines:
        return [(event["stream"], event["type"]) for event in map(json.loads, lines)]


LOGS: Final = {"made up": made_up, **({"real": real} if REAL.exists() else {})}


async def append_all(store: EventStore, log: Sequence[tuple[str, str]]) -> None:
    streams: dict[str, list[NewEvent]] = {}
    for stream, type_ in log:
        streams.setdefault(stream, []).append(NewEvent(type_, {}))
    limiter = CapacityLimiter(16)

    async def append(stream: str, events: list[NewEvent]) -> None:
        async with limiter:
            await store.append(stream, events)

    async with create_task_group() as group:
        for stream, events in streams.items():
            group.start_soon(append, stream, events)


def cases() -> Projection[Any]:
    projection: Projection[Any] = Projection("cases", batch_size=200)

    @projection.prepare
    async def create(context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"CREATE TABLE IF NOT EXISTS cases{context.suffix} "
            "(name text PRIMARY KEY, step text NOT NULL, steps bigint NOT NULL)",
        )

    @projection.on_batch()
    async def advance(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        for event in events:
            await execute(
                context.connection,
                f"INSERT INTO cases{context.suffix} AS c VALUES ($1, $2, 1) "
                "ON CONFLICT (name) DO UPDATE SET step = $2, steps = c.steps + 1",
                event.stream,
                event.type,
            )

    return projection


@pytest.mark.parametrize("database", PLACES)
@pytest.mark.parametrize("log", LOGS)
async def test_cases_by_current_step_equal_a_plain_fold(
    request: pytest.FixtureRequest, database: str, log: str
) -> None:
    place = PLACES[database](request)
    events = LOGS[log]()
    async with connect(place.url) as store, open_checkpoints(store, place.url) as checkpoints:
        runner = Runner(store, cases(), checkpoints)
        with no_hang():
            async with create_task_group() as group:
                group.start_soon(runner.run)
                await append_all(store, events)
                (last,) = [e async for e in store.iterate_all()][-1:]
                await runner.wait_until(last.position)
                group.cancel_scope.cancel()
        stored = await place.query("SELECT name, step, steps FROM cases_1")
    folded: dict[str, tuple[str, int]] = {}
    for stream, type_ in events:
        _, steps = folded.get(stream, ("", 0))
        folded[stream] = (type_, steps + 1)
    assert {name: (step, steps) for name, step, steps in stored} == folded
