"""Proves that processes that race leave one gapless order, of which a reader misses nothing."""

from __future__ import annotations

import time

from collections import Counter
from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.processes import follow, output
from adapters.mongodb.tests.servers import with_options
from anyio import to_thread

from eventport import NewEvent, RecordedEvent, connect

from eventport_conformance.scripts import Script, Start
from eventport_conformance.waiting import no_hang


TASKS = 16
APPENDS = 48


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_nothing_is_missed_of_what_two_processes_write(
    url: str, driver: str, start: Start
) -> None:
    place = with_options(url, driver=driver)
    reader = start("tail.py", place)
    reader.ready()
    writers = [start("append_many.py", place, name, TASKS, APPENDS) for name in "ab"]
    seen: list[Any] = []
    results: list[Any] = []

    async def read() -> None:
        seen.extend(await to_thread.run_sync(follow, reader))

    async def write(process: Script) -> None:
        results.append(await to_thread.run_sync(output, process))

    stored: list[RecordedEvent] = []
    seconds = 0.0
    begin = time.monotonic()
    with no_hang():
        async with anyio.create_task_group() as reading, connect(place) as store:
            reading.start_soon(read)
            async with anyio.create_task_group() as writing:
                for process in writers:
                    writing.start_soon(write, process)
            seconds = time.monotonic() - begin
            stored += [event async for event in store.iterate_all()]
            await store.append("end", [NewEvent("Ended", None)])

    (ours, our_conflicts), (theirs, their_conflicts) = results
    written = {**ours, **theirs}
    print(  # noqa: T201  # for those who pass -s
        f"{len(written)} appends in {seconds:.1f} s: {len(written) / seconds:.0f} appends/s"
    )
    # Of each stream that both wanted to begin, one of them began it, and the other one knows.
    assert our_conflicts + their_conflicts == TASKS * APPENDS // 3
    assert seen == [[one.position, one.stream, one.version, one.data] for one in stored]
    assert [position for position, *_ in seen] == list(range(1, len(seen) + 1))
    heads: Counter[str] = Counter()
    parts: dict[str, list[list[int]]] = {}
    for position, stream, version, (name, task, number, index, size) in seen:
        heads[stream] += 1
        assert version == heads[stream]
        parts.setdefault(f"{name}/{task}/{number}", []).append([position, index, size])
    assert {key: len(found) for key, found in parts.items()} == written
    for found in parts.values():
        first, _, size = found[0]
        assert found == [[first + index, index, size] for index in range(size)]
