"""Proves that a process killed at any moment leaves all that it acknowledged, and nothing half."""

from __future__ import annotations

import random
import secrets
import subprocess
import time

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from eventport import NewEvent, RecordedEvent

from eventport_sqlite import SQLiteEventStore


Start = Callable[..., subprocess.Popen[str]]
Go = Callable[..., None]
Query = Callable[..., list[tuple[object, ...]]]

KILLS = 20


def kill_after(process: subprocess.Popen[str], seconds: float) -> dict[str, int]:
    """Kill a process, and return the last version that it acknowledged of each stream."""
    time.sleep(seconds)
    process.kill()
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")[:-1]
    return {stream: int(version) for stream, version in map(str.split, lines)}


async def check(path: Path, acknowledged: dict[str, int]) -> Counter[str]:
    """Open what a killed process left, look at all of it, and return the streams' versions."""
    async with await SQLiteEventStore.open(path) as store:
        events = [event async for event in store.iterate_all()]
        await store.append("after", [NewEvent("Opened", None)])  # it is usable at once
    heads: Counter[str] = Counter()
    commits: dict[str, list[RecordedEvent]] = {}
    last = 0
    for event in events:
        assert event.position > last
        last = event.position
        heads[event.stream] += 1
        assert event.version == heads[event.stream]
        if event.type == "Written":
            commits.setdefault(event.data[0], []).append(event)
    for parts in commits.values():
        assert [event.data[1] for event in parts] == list(range(parts[0].data[2]))
    for stream, version in acknowledged.items():
        assert heads[stream] >= version, f"{stream} was acknowledged to be at {version}"
    return heads


async def test_what_was_acknowledged_survives_kill_9_and_nothing_is_half_there(
    path: Path, start: Start, go: Go, query: Query
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with a failure
    chosen = random.Random(seed)
    heads: Counter[str] = Counter()
    acknowledged: dict[str, int] = {}
    process = start("write_until_killed.py", path)
    for _ in range(KILLS):
        go(process)
        acknowledged |= kill_after(process, 0.02 + chosen.uniform(0, 0.15))
        process = start("write_until_killed.py", path)  # it gets ready during the check
        heads = await check(path, acknowledged)
    assert query("PRAGMA integrity_check") == [("ok",)]
    assert heads["after"] == KILLS - 1
    assert len(acknowledged) == 12
    assert sum(acknowledged.values()) > 20 * KILLS, "hardly anything was written"


@pytest.mark.parametrize("milliseconds", range(0, 20, 2))
async def test_a_kill_while_a_file_is_created_leaves_one_that_can_be_opened(
    path: Path, start: Start, go: Go, milliseconds: int
) -> None:
    process = start("write_until_killed.py", path)
    go(process)
    acknowledged = kill_after(process, milliseconds / 1000)
    await check(path, acknowledged)
