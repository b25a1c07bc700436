"""Proves that a process killed at any moment leaves all that it acknowledged, and nothing half."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from eventport import NewEvent, RecordedEvent

from eventport_conformance.chaos import seeded_random
from eventport_conformance.scripts import Script, Start
from eventport_conformance.waiting import until_in_thread
from eventport_sqlite import SQLiteEventStore


Go = Callable[..., None]
Query = Callable[..., list[tuple[object, ...]]]

KILLS = 20


def kill_after(process: Script, count: int) -> dict[str, int]:
    """Kill a process that has acknowledged so much, and return each stream's last version."""
    lines = [process.line() for _ in range(count)]
    process.kill()
    lines += process.lines()
    assert all(lines), "the process has ended by itself"
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
    chosen = seeded_random()
    heads: Counter[str] = Counter()
    acknowledged: dict[str, int] = {}
    process = start("write_until_killed.py", path)
    for _ in range(KILLS):
        go(process)
        # Of a few, the first commits are hit; of many, the middle of the work of all tasks.
        acknowledged |= kill_after(process, chosen.choice([1, 10, chosen.randrange(20, 80), 80]))
        process = start("write_until_killed.py", path)  # it gets ready during the check
        heads = await check(path, acknowledged)
    assert query("PRAGMA integrity_check") == [("ok",)]
    assert heads["after"] == KILLS - 1
    assert len(acknowledged) > 4, "hardly anything was written"


# What there is of a file while it is created, each a little later than the one before it.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "nothing": lambda _: True,
    "a file": Path.exists,
    "something in it": lambda path: path.exists() and path.stat().st_size > 0,
    "a log": lambda path: path.with_name(f"{path.name}-wal").exists(),
    "much in the log": lambda path: (
        (log := path.with_name(f"{path.name}-wal")).exists() and log.stat().st_size > 30_000
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_while_a_file_is_created_leaves_one_that_can_be_opened(
    path: Path, start: Start, go: Go, moment: str
) -> None:
    process = start("write_until_killed.py", path)
    go(process)
    until_in_thread(lambda: MOMENTS[moment](path), moment)
    await check(path, kill_after(process, 0))
