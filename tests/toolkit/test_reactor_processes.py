"""Proves that a reactor that is killed at any moment has each of its effects once."""

from __future__ import annotations

import os
import random
import secrets

from itertools import chain
from pathlib import Path

from anyio import sleep, to_thread
from tests.toolkit.starting import workers

from eventport import EventStore, NewEvent, connect

from eventport_conformance.waiting import HANG_SECONDS, no_hang


# The full form, of 100, takes some minutes.
KILLS = int(os.environ.get("EVENTPORT_TEST_KILLS", "5"))
EACH = 10
LEASE = 0.4


async def count(store: EventStore, stream: str) -> int:
    return (await store.read(stream, max_count=0)).version


async def reach(store: EventStore, stream: str, number: int) -> None:
    while True:
        if await count(store, stream) >= number:
            return
        await sleep(0.01)


async def numbers(store: EventStore, stream: str, field: str = "n") -> list[int]:
    return [event.data[field] for event in (await store.read(stream)).events]


async def test_a_reactor_killed_at_random_has_each_effect_once(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with a failure
    chosen = random.Random(seed)
    url = f"sqlite:///{tmp_path / 'events.db'}"
    placed = list(range((KILLS + 1) * EACH))
    with (
        workers() as start,
        no_hang(seconds=HANG_SECONDS + 10 * KILLS),
    ):
        async with connect(url) as store:
            for kill in range(KILLS + 1):
                stream = chosen.choice(["log", "late", "eventport/timeouts/saga"])
                before = await count(store, stream)
                worker = start("react", url, LEASE)
                assert await to_thread.run_sync(worker.line) == "ready"
                for n in placed[kill * EACH : (kill + 1) * EACH]:
                    await store.append(f"order-{n}", [NewEvent("Placed", {"n": n})])
                if kill < KILLS:
                    await reach(store, stream, before + 1)  # it works
                    await sleep(chosen.uniform(0, 0.05))
                    worker.kill()
                    worker.wait()
            await reach(store, "late", len(placed))
            await every_effect_is_there_once(store, placed)


async def every_effect_is_there_once(store: EventStore, placed: list[int]) -> None:
    assert await numbers(store, "log") == placed  # in the order of the causes
    assert sorted(await numbers(store, "late")) == placed
    deposits = [await numbers(store, f"account-{last}", "amount") for last in range(10)]
    assert sorted(chain(*deposits)) == [n + 1 for n in placed]
    for n in placed:
        found = (await store.read(f"order-{n}")).events
        assert [event.type for event in found] == ["Placed", "Cancelled"]
    assert await count(store, "eventport/timeouts/saga") == 2 * len(placed)
