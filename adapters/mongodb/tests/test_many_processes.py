"""Proves that processes that race leave one gapless order, of which a reader misses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.servers import with_options
from anyio import to_thread

from eventport import NewEvent, RecordedEvent, connect


WORKERS = Path(__file__).parent / "workers"
TASKS = 16
APPENDS = 48

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Generator[Start, None, None]:
    """Start another process, and wait until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start_(script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(WORKERS / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_
    for process in started:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def output(process: subprocess.Popen[str]) -> Any:
    text, _ = process.communicate("go\n", timeout=120)
    assert process.returncode == 0
    return json.loads(text)


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_nothing_is_missed_of_what_two_processes_write(
    url: str, driver: str, start: Start
) -> None:
    place = with_options(url, driver=driver)
    reader = start("tail.py", place)
    writers = [start("append_many.py", place, name, TASKS, APPENDS) for name in "ab"]
    seen: list[Any] = []
    results: list[Any] = []

    async def read() -> None:
        seen.extend(await to_thread.run_sync(output, reader))

    async def write(process: subprocess.Popen[str]) -> None:
        results.append(await to_thread.run_sync(output, process))

    stored: list[RecordedEvent] = []
    seconds = 0.0
    begin = time.monotonic()
    with anyio.fail_after(120):
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
