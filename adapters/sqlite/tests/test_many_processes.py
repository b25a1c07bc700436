"""Proves that several processes on one file race fairly, create it once, and miss nothing."""

from __future__ import annotations

import asyncio
import json

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from anyio import to_thread

from eventport import NewEvent, RecordedEvent

from eventport_conformance.scripts import Start
from eventport_conformance.waiting import no_hang
from eventport_sqlite import SQLiteEventStore


Go = Callable[..., None]
Query = Callable[..., list[tuple[object, ...]]]

PROCESSES = 8
STREAMS = 200
WRITERS = 4
APPENDS = 5_000


def test_one_process_wins_each_stream_and_the_losers_learn_its_version(
    path: Path, start: Start, go: Go, query: Query
) -> None:
    # The n-th process appends n events, so that a version tells who made the stream.
    processes = [start("race.py", path, STREAMS, size + 1) for size in range(PROCESSES)]
    for turn in range(STREAMS):
        first = turn % PROCESSES  # the one that is let go first wins the more often
        go(*processes[first:], *processes[:first])
    results: list[list[int]] = [json.loads(process.output()) for process in processes]
    winners: Counter[int] = Counter()
    for number, versions in enumerate(zip(*results, strict=True)):
        (winner,) = [index for index, version in enumerate(versions) if version > 0]
        size = winner + 1
        assert versions == tuple(size if n == winner else -size for n in range(PROCESSES))
        rows = query(
            "SELECT version, data FROM eventport_events WHERE stream = ? ORDER BY version",
            f"race-{number}",
        )
        assert rows == [(version, f'{{"size":{size}}}') for version in range(1, size + 1)]
        winners[winner] += 1
    assert len(winners) > 1, "the processes did not run at the same time"


def test_twenty_processes_that_open_a_new_file_create_it_once(
    path: Path, start: Start, go: Go, query: Query
) -> None:
    processes = [start("open_once.py", path, f"own-{number}") for number in range(20)]
    go(*processes)
    assert [process.output() for process in processes] == ["1\n"] * 20
    assert query("SELECT version FROM eventport_schema") == [(1,), (2,)]  # each step once
    assert query("SELECT count(*), count(DISTINCT stream) FROM eventport_events") == [(20, 20)]
    assert query("PRAGMA journal_mode") == [("wal",)]
    assert query("PRAGMA integrity_check") == [("ok",)]


async def test_a_tailing_reader_misses_nothing_of_what_four_processes_write(
    path: Path, store: SQLiteEventStore, start: Start, go: Go, query: Query
) -> None:
    processes = [start("write_many.py", path, name, APPENDS // WRITERS) for name in "abcd"]
    seen: list[RecordedEvent] = []
    pairs: list[RecordedEvent] = []

    async def tail(into: list[RecordedEvent], prefix: str | None) -> None:
        async with store.subscribe(prefix=prefix) as subscription:
            async for event in subscription:
                if event.type == "Ended":
                    return
                into.append(event)

    async def write() -> int:
        await to_thread.run_sync(go, *processes)
        written = [int(await to_thread.run_sync(process.output)) for process in processes]
        await store.append("p-end", [NewEvent("Ended", None)])
        return sum(written)

    async with no_hang(), asyncio.TaskGroup() as tasks:
        tasks.create_task(tail(seen, None))
        tasks.create_task(tail(pairs, "p-"))
        total = await write()

    assert total > 2 * APPENDS
    rows = query(
        "SELECT position, stream, version FROM eventport_events WHERE type = 'Written' "
        "ORDER BY position"
    )
    assert [(event.position, event.stream, event.version) for event in seen] == rows
    assert [event for event in seen if event.stream.startswith("p-")] == pairs
    positions = [event.position for event in seen]
    assert all(before < after for before, after in pairwise(positions))
    heads: Counter[str] = Counter()
    appends: dict[tuple[str, int], list[RecordedEvent]] = {}
    for event in seen:
        heads[event.stream] += 1
        assert event.version == heads[event.stream]
        writer, number, _, _ = event.data
        appends.setdefault((writer, number), []).append(event)
    assert len(appends) == APPENDS
    for events in appends.values():
        # The events of one commit are all there, side by side, in order.
        assert [event.data[2] for event in events] == list(range(events[0].data[3]))
        assert events[-1].position - events[0].position == len(events) - 1
