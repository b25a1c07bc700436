"""Proves that killed and halted processes leave each key's events handled once and in order."""

from __future__ import annotations

import os
import signal

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple, TypeAlias

import pytest

from anyio import create_task_group, sleep, to_thread
from tests.toolkit.parted import PARTS, parted, rows
from tests.toolkit.read_models import PLACES, Place
from tests.toolkit.starting import workers

from eventport import EventStore, NewEvent, connect
from eventport.projections import CheckpointStore, open_checkpoints, wait_until

from eventport_conformance.chaos import seeded_random
from eventport_conformance.scripts import Script
from eventport_conformance.waiting import HANG_SECONDS, no_hang


# The full form, of 100 on each database, takes some minutes.
KILLS = int(os.environ.get("EVENTPORT_TEST_KILLS", "5"))
LEASE = 0.4
STREAMS = [f"account-{n}" for n in range(20)]

Start: TypeAlias = Callable[..., Script]


class Scene(NamedTuple):
    """A database, and what the test itself has opened of it."""

    place: Place
    store: EventStore
    checkpoints: CheckpointStore[Any]

    async def append(self, stream: str, events: int) -> int:
        """Append events, and return the position of the last one."""
        new = [NewEvent("Moved", {"n": n}) for n in range(events)]
        result = await self.store.append(stream, new)
        return result.position or 0

    async def owners(self, generation: int = 1) -> list[int | None]:
        """Return the process that has each part."""
        parts = parted(generation=generation).parts
        owners = [(await self.checkpoints.load(part)).owner for part in parts]
        return [None if owner is None else int(owner.split(":")[1]) for owner in owners]

    async def until_shared(self, *processes: Script) -> None:
        """Wait until every one of these processes has its share of the parts."""
        pids = {process.pid for process in processes}
        while True:
            held = Counter(await self.owners())
            if set(held) == pids and max(held.values()) - min(held.values()) <= 1:
                return
            await sleep(0.02)


@pytest.fixture(params=["sqlite"])
async def scene(request: pytest.FixtureRequest) -> AsyncGenerator[Scene, None]:
    place = PLACES[request.param](request)
    async with connect(place.url) as store, open_checkpoints(store, place.url) as checkpoints:
        yield Scene(place, store, checkpoints)


@pytest.fixture
def start(scene: Scene) -> Generator[Start]:
    """Start another process that runs the projection."""
    with workers() as start_:

        def start(generation: int = 1) -> Script:
            return start_("part", scene.place.url, LEASE, generation)

        yield start


@asynccontextmanager
async def events_flowing(scene: Scene, chosen: Random) -> AsyncGenerator[None, None]:
    async def flow() -> None:
        while True:
            await scene.append(chosen.choice(STREAMS), chosen.randrange(1, 4))
            await sleep(0.005)

    async with create_task_group() as group:
        group.start_soon(flow)
        yield
        group.cancel_scope.cancel()


async def settled(scene: Scene, generation: int = 1) -> None:
    """Wait until all is projected, and compare it with what a bare driver finds."""
    position = 0
    for stream in STREAMS:
        position = await scene.append(stream, 1)
    await wait_until(scene.checkpoints, "parted", position)
    found = await scene.place.query(
        f"SELECT stream, count(*), count(*), 0 FROM {scene.place.events} "
        "WHERE stream LIKE 'account-%' GROUP BY stream"
    )
    expected = {stream: tuple(numbers) for stream, *numbers in found}
    assert len(expected) == len(STREAMS)
    assert await rows(scene.place, generation) == expected


@pytest.mark.parametrize("scene", list(PLACES), indirect=True)
async def test_parts_of_killed_processes_are_handled_once_and_in_order(
    scene: Scene, start: Start
) -> None:
    chosen = seeded_random()
    processes = [start(), start(), start()]
    with no_hang(seconds=HANG_SECONDS + 20 * KILLS):
        async with events_flowing(scene, chosen):
            for _ in range(KILLS):
                await scene.until_shared(*processes)
                for stream in STREAMS:
                    await scene.append(stream, 10)
                await sleep(chosen.uniform(0, 0.3))
                victim = processes.pop(chosen.randrange(len(processes)))
                victim.kill()
                processes.append(start())
        await settled(scene)


# Nobody can take the write lock of SQLite away from a process that is halted while it has it.
@pytest.mark.parametrize("scene", ["postgres"], indirect=True)
async def test_a_halted_process_loses_its_parts_and_writes_nothing_when_it_goes_on(
    scene: Scene, start: Start
) -> None:
    halted, other = start(), start()
    with no_hang():
        await scene.until_shared(halted, other)
        await settled(scene)  # they wait for events now
        os.kill(halted.pid, signal.SIGSTOP)
        for stream in STREAMS:
            await scene.append(stream, 10)
        await scene.until_shared(other)
        await settled(scene)
        os.kill(halted.pid, signal.SIGCONT)
        await scene.until_shared(halted, other)  # it gets a share again
        await settled(scene)


async def test_a_new_generation_is_built_by_many_processes_and_takes_over(
    scene: Scene, start: Start
) -> None:
    with no_hang():
        old = start()
        await scene.until_shared(old)
        await settled(scene)
        new = [start(2), start(2)]
        while await scene.checkpoints.active("parted") != 2:  # noqa: ASYNC110  # in another process
            await sleep(0.02)
        for process in (old, *new):
            assert await to_thread.run_sync(process.line) == "ready"
        assert await to_thread.run_sync(old.line) == "retired"
        await settled(scene, 2)
        assert len(await scene.owners(2)) == PARTS
