"""Proves that killed, halted and rival runners leave the read model equal to a fold of events."""

from __future__ import annotations

import os
import random
import secrets
import signal

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import pytest

from anyio import create_task_group, sleep, to_thread
from tests.toolkit.read_models import PLACES, Place, folded_totals, stored_totals, totals
from tests.toolkit.starting import workers

from eventport import EventStore, NewEvent, connect
from eventport.projections import (
    CheckpointStore,
    ProjectionId,
    Runner,
    open_checkpoints,
    wait_until,
)

from eventport_conformance.scripts import Script
from eventport_conformance.waiting import HANG_SECONDS, no_hang


# The full form, of 100, takes some minutes.
KILLS = int(os.environ.get("EVENTPORT_TEST_KILLS", "10"))
LEASE = 0.4

Start: TypeAlias = Callable[..., Script]


class Scene(NamedTuple):
    """A database, and what the test itself has opened of it."""

    place: Place
    store: EventStore
    checkpoints: CheckpointStore[Any]


@pytest.fixture(params=PLACES)
async def scene(request: pytest.FixtureRequest) -> AsyncGenerator[Scene, None]:
    place = PLACES[request.param](request)
    async with connect(place.url) as store, open_checkpoints(store, place.url) as checkpoints:
        yield Scene(place, store, checkpoints)


@pytest.fixture
def start(scene: Scene) -> Generator[Start]:
    """Start another process that runs the projection."""
    with workers() as start_:

        def start(*, generation: int = 1, batch_size: int = 20, lease: float = LEASE) -> Script:
            return start_("project", scene.place.url, lease, generation, batch_size)

        yield start


async def line(process: Script) -> str:
    return await to_thread.run_sync(process.line)


async def active(scene: Scene, generation: int = 1) -> int | None:
    """Return the number of the process that runs the projection."""
    checkpoint = await scene.checkpoints.load(ProjectionId("totals", generation))
    return int(checkpoint.owner.split(":")[1]) if checkpoint.owner else None


async def until_active(scene: Scene, *processes: Script) -> int:
    while True:
        if (pid := await active(scene)) in [process.pid for process in processes]:
            return pid
        await sleep(0.02)


async def move(store: EventStore) -> int:
    amount = random.randrange(-1_000, 1_000)
    account = f"account-{random.randrange(20)}"
    events = [NewEvent("Moved", {"amount": amount + n}) for n in range(random.randrange(1, 4))]
    return (await store.append(account, events)).position or 0


@asynccontextmanager
async def events_flowing(store: EventStore) -> AsyncGenerator[None, None]:
    async def flow() -> None:
        while True:
            await move(store)
            await sleep(0.005)

    async with create_task_group() as group:
        group.start_soon(flow)
        yield
        group.cancel_scope.cancel()


async def settled(scene: Scene) -> None:
    """Wait until all is projected, and compare it with a fold."""
    position = await move(scene.store)
    with no_hang():
        await wait_until(scene.checkpoints, "totals", position)
    assert await stored_totals(scene.place) == await folded_totals(scene.store)


async def test_a_projection_killed_at_random_counts_each_event_once(
    scene: Scene, start: Start
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with a failure
    chosen = random.Random(seed)
    # The more transactions there are, the more often a kill meets the end of one.
    processes = [start(batch_size=1), start(batch_size=1)]
    with no_hang(seconds=HANG_SECONDS + 10 * KILLS):
        async with events_flowing(scene.store):
            for _ in range(KILLS):
                pid = await until_active(scene, *processes)
                amounts = [NewEvent("Moved", {"amount": n}) for n in range(150)]
                await scene.store.append("account-0", amounts)
                await sleep(chosen.uniform(0, 0.3))
                victim = next(process for process in processes if process.pid == pid)
                victim.kill()
                processes.remove(victim)
                processes.append(start(batch_size=1))  # the other one takes over meanwhile
        for process in processes:
            process.kill()
        start(batch_size=500)  # for what has piled up
        await settled(scene)
    assert (await folded_totals(scene.store)).keys() == {f"account-{n}" for n in range(20)}


async def test_of_two_processes_one_is_active_and_the_other_takes_over(
    scene: Scene, start: Start
) -> None:
    processes = [start(), start()]
    with no_hang():
        for process in processes:
            assert await line(process) == "ready"
        async with events_flowing(scene.store):
            first = await until_active(scene, *processes)
            os.kill(first, signal.SIGKILL)
            second = await until_active(
                scene, *(process for process in processes if process.pid != first)
            )
    assert second != first
    await settled(scene)


async def test_a_living_runner_keeps_its_lease(scene: Scene, start: Start) -> None:
    # It lasts longer than any pause that a busy machine makes.
    processes = [start(lease=HANG_SECONDS), start(lease=HANG_SECONDS)]
    with no_hang():
        for process in processes:
            assert await line(process) == "ready"
        async with events_flowing(scene.store):
            first = await until_active(scene, *processes)
            for _ in range(10):
                await sleep(LEASE / 4)
                assert await active(scene) == first, "a living runner lost its lease"


async def test_a_halted_runner_is_replaced_and_writes_nothing_when_it_goes_on(
    scene: Scene, start: Start
) -> None:
    halted = start()
    with no_hang():
        assert await line(halted) == "ready"
        await until_active(scene, halted)
        await settled(scene)  # it waits for events now
        os.kill(halted.pid, signal.SIGSTOP)
        for _ in range(50):
            await move(scene.store)
        other = start()
        await until_active(scene, other)
        await settled(scene)
        os.kill(halted.pid, signal.SIGCONT)
        await sleep(2 * LEASE)  # for it to write what it had in hand, if it did
        await settled(scene)
        other.kill()
        await until_active(scene, halted)  # it has become a runner like any other
        await settled(scene)


async def test_a_runner_halted_in_its_transaction_counts_nothing_twice(
    scene: Scene, start: Start
) -> None:
    halted = start()
    with no_hang():
        assert await line(halted) == "ready"
        await until_active(scene, halted)
        await settled(scene)
        for _ in range(10):
            await move(scene.store)
        await scene.store.append("account-0", [NewEvent("Halt", {"pid": halted.pid})])
        other = start()
        assert await line(other) == "ready"
        await sleep(2 * LEASE)
        if scene.place.frees_locks_of_the_halted:
            await until_active(scene, other)
            await settled(scene)
        os.kill(halted.pid, signal.SIGCONT)
        await settled(scene)


async def test_a_new_generation_is_built_beside_the_old_one_and_takes_its_place(
    scene: Scene, start: Start
) -> None:
    for _ in range(300):
        await move(scene.store)
    old = start()
    with no_hang():
        assert await line(old) == "ready"
        await until_active(scene, old)
        await settled(scene)  # the very first generation is active before it has caught up
        async with events_flowing(scene.store):
            seen: Counter[int] = Counter()
            new = start(generation=2)
            while seen[2] < 5:
                generation = await scene.checkpoints.active("totals")
                # What is seen under the active generation was complete when it became that.
                rows = await scene.place.query(f"SELECT sum(events) FROM totals_{generation}")
                seen[generation] += 1
                assert rows[0][0] >= 300
                await sleep(0.02)
            assert seen[1] > 0
            assert await line(old) == "retired"
            assert await to_thread.run_sync(old.wait) == 0
        await settled_as(scene, 2)
        assert await line(new) == "ready"
        before = await stored_totals(scene.place, 1)
        await settled_as(scene, 2)
        assert await stored_totals(scene.place, 1) == before
        # The old program, started again, does nothing.
        runner = Runner(scene.store, totals(), scene.checkpoints)
        await runner.run()
        assert (await runner.progress()).state == "retired"


async def settled_as(scene: Scene, generation: int) -> None:
    position = await move(scene.store)
    await wait_until(scene.checkpoints, "totals", position)
    assert await stored_totals(scene.place, generation) == await folded_totals(scene.store)
