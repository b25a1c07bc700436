"""A projection goes on only with the store, and the history, that its checkpoint is of."""

from __future__ import annotations

from typing import Any

import pytest

from anyio import sleep
from tests.toolkit.read_models import PLACES
from tests.toolkit.stages import QUICK, Stage, running

from eventport import EventStore, NewEvent, RecordedEvent, connect
from eventport.projections import (
    CheckpointMismatchError,
    LastEvent,
    Projection,
    ProjectionContext,
    ProjectionId,
    Runner,
    open_checkpoints,
)
from eventport.projections.sql import SqlCheckpoints

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


ID = ProjectionId("resumed", 1)


class Named(MemoryEventStore):
    """A store that says which one it is."""

    def __init__(self, store_id: str) -> None:
        super().__init__()
        self.store_id = store_id


def resumed(seen: list[int]) -> Projection[Any]:
    projection: Projection[Any] = Projection("resumed", prefix="order-", retries=QUICK)

    @projection.on("Added")
    async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        seen.append(event.position)

    return projection


async def refused(stage: Stage, store: EventStore) -> str:
    before = await stage.checkpoints.load(ID)
    seen: list[int] = []
    with no_hang(), pytest.raises(CheckpointMismatchError) as caught:
        await Runner(store, resumed(seen), stage.checkpoints).run()
    after = await stage.checkpoints.load(ID)
    assert (after.position, after.owner) == (before.position, None)
    assert not seen
    return str(caught.value)


async def added(store: EventStore, count: int) -> list[int]:
    for _ in range(count):
        await store.append("order-1", [NewEvent("Added", {})])
    return [event.position for event in (await store.read("order-1")).events]


async def test_a_checkpoint_says_which_event_was_the_last(stage: Stage) -> None:
    await added(stage.store, 3)
    last = (await stage.store.read("order-1")).events[-1]
    await stage.run_until(resumed([]), last.position)
    checkpoint = await stage.checkpoints.load(ID)
    assert checkpoint.last_event == LastEvent(last.position, "order-1", 3, last.id)
    assert checkpoint.store_id == getattr(stage.store, "store_id", None)


@pytest.mark.parametrize("events", [0, 2, 3, 9])
async def test_a_replaced_history_is_refused_until_the_checkpoint_is_reset(
    stage: Stage, events: int
) -> None:
    seen: list[int] = []
    old = await added(stage.store, 3)
    await stage.run_until(resumed(seen), old[-1])
    assert seen == old
    async with MemoryEventStore() as restored:
        new = await added(restored, events)
        text = await refused(stage, restored)
        assert "resumed@1" in text
        assert "reset" in text
        await stage.checkpoints.reset(ID, 0)
        again: list[int] = []
        runner = Runner(restored, resumed(again), stage.checkpoints)
        async with running(runner):
            new += (await added(restored, 1))[-1:]
            await runner.wait_until(new[-1])
        assert again == new


async def test_a_checkpoint_of_another_store_is_refused(stage: Stage) -> None:
    async with Named("one") as one, Named("two") as two:
        (first,) = await added(one, 1)
        runner = Runner(one, resumed([]), stage.checkpoints)
        async with running(runner):
            await runner.wait_until(first)
        assert (await stage.checkpoints.load(ID)).store_id == "one"
        text = await refused(stage, two)
        assert "one" in text
        assert "two" in text


async def test_a_checkpoint_beyond_the_head_is_refused(stage: Stage) -> None:
    await added(stage.store, 2)
    lease = await stage.checkpoints.acquire(ID, "me", 15)
    assert lease is not None
    async with lease.advance(10**12):
        pass
    await lease.release()
    assert "beyond the head" in await refused(stage, stage.store)


async def test_a_checkpoint_that_says_nothing_of_this_is_taken_once(stage: Stage) -> None:
    before = await added(stage.store, 2)
    lease = await stage.checkpoints.acquire(ID, "me", 15)
    assert lease is not None
    async with lease.advance(before[-1]):
        pass
    await lease.release()
    assert (await stage.checkpoints.load(ID)).last_event is None
    last = (await added(stage.store, 1))[-1]
    seen: list[int] = []
    await stage.run_until(resumed(seen), last)
    assert seen == [last]
    kept = (await stage.checkpoints.load(ID)).last_event
    assert kept is not None
    assert kept.position == last


async def test_a_position_that_was_only_passed_is_no_reason_to_refuse(stage: Stage) -> None:
    await added(stage.store, 1)
    (passed,) = await stage.append("invoice-1", "Sent")
    runner = stage.runner(resumed([]), lease=0.2)
    async with running(runner):
        while (await stage.checkpoints.load(ID)).position < passed:  # noqa: ASYNC110  # as below
            await sleep(0.01)
    seen: list[int] = []
    last = (await added(stage.store, 1))[-1]
    await stage.run_until(resumed(seen), last)
    assert seen == [last]


async def test_a_reset_fences_off_the_runner_that_has_the_lease(stage: Stage) -> None:
    positions = await added(stage.store, 3)
    seen: list[int] = []
    runner = stage.runner(resumed(seen), lease=0.3)
    async with running(runner):
        await runner.wait_until(positions[-1])
        await stage.checkpoints.reset(ID, positions[0])
        while len(seen) < 5:  # noqa: ASYNC110  # there is no event for it
            await sleep(0.01)
    assert seen == [*positions, *positions[1:]]


_FIRST_TABLES = {
    "sqlite": (
        (
            "CREATE TABLE eventport_projections (name TEXT NOT NULL, generation INTEGER NOT NULL, "
            "position INTEGER NOT NULL DEFAULT 0, active INTEGER NOT NULL DEFAULT 0, owner TEXT, "
            "fence INTEGER NOT NULL DEFAULT 0, expires_at REAL NOT NULL DEFAULT 0, "
            "PRIMARY KEY (name, generation)) STRICT"
        ),
        (
            "CREATE TABLE eventport_dead_letters (name TEXT NOT NULL, generation INTEGER NOT NULL, "
            "position INTEGER NOT NULL, stream TEXT NOT NULL, version INTEGER NOT NULL, "
            "type TEXT NOT NULL, error TEXT NOT NULL, attempts INTEGER NOT NULL, at TEXT NOT NULL, "
            "PRIMARY KEY (name, generation, position)) STRICT"
        ),
        (
            "INSERT INTO eventport_projections (name, generation, position, active, owner, fence) "
            "VALUES ('resumed', 1, 2, 1, 'gone', 4)"
        ),
    ),
    "postgres": (
        (
            "CREATE TABLE projections (name text NOT NULL, generation bigint NOT NULL, "
            "position bigint NOT NULL DEFAULT 0, active boolean NOT NULL DEFAULT false, "
            "owner text, fence bigint NOT NULL DEFAULT 0, "
            "expires_at timestamptz NOT NULL DEFAULT '-infinity', "
            "PRIMARY KEY (name, generation))"
        ),
        (
            "CREATE TABLE dead_letters (name text NOT NULL, generation bigint NOT NULL, "
            "position bigint NOT NULL, stream text NOT NULL, version bigint NOT NULL, "
            "type text NOT NULL, error text NOT NULL, attempts bigint NOT NULL, "
            "at timestamptz NOT NULL, PRIMARY KEY (name, generation, position))"
        ),
        (
            "INSERT INTO projections (name, generation, position, active, owner, fence) "
            "VALUES ('resumed', 1, 2, true, 'gone', 4)"
        ),
    ),
}


@pytest.mark.parametrize("database", PLACES)
async def test_tables_of_the_first_version_are_brought_up_to_date(
    request: pytest.FixtureRequest, database: str
) -> None:
    place = PLACES[database](request)
    async with connect(place.url) as store:
        positions = await added(store, 3)
        for sql in _FIRST_TABLES[database]:
            await place.query(sql)
        for _ in range(2):  # the second time there is nothing to do
            async with open_checkpoints(store, place.url) as checkpoints:
                assert (await checkpoints.load(ID)).position == 2
                assert (await checkpoints.load(ID)).owner == "gone"
                assert await checkpoints.active("resumed") == 1
        async with open_checkpoints(store, place.url) as checkpoints:
            await checkpoints.reset(ID, positions[1])  # nobody gives the lease of "gone" back
            seen: list[int] = []
            runner = Runner(store, resumed(seen), checkpoints)
            async with running(runner):
                await runner.wait_until(positions[2])
            assert seen == positions[2:]


@pytest.mark.parametrize("database", PLACES)
async def test_leases_depend_on_no_clock_of_a_database(
    request: pytest.FixtureRequest, database: str
) -> None:
    place = PLACES[database](request)
    async with connect(place.url) as store, open_checkpoints(store, place.url) as checkpoints:
        assert isinstance(checkpoints, SqlCheckpoints)
        statements = " ".join(map(str, vars(checkpoints._sql).values())).lower()
        for clock in ("now(", "clock", "julianday", "current_", "expires"):
            assert clock not in statements
        assert await checkpoints.acquire(ID, "silent", 0.2) is not None
        taken, asked = None, 0
        with no_hang():
            while taken is None:
                asked += 1
                taken = await checkpoints.acquire(ID, "stand-by", 0.2)
        assert asked > 1
