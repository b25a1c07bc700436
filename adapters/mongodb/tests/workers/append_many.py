"""Append from many tasks, to streams shared with other processes and to streams of one's own."""

from __future__ import annotations

import asyncio
import json
import sys

from eventport import NO_STREAM, ConcurrencyError, NewEvent, connect


async def run(url: str, name: str, tasks: int, appends: int) -> None:
    """Append, and print what was written, lost and refused."""
    written: dict[str, int] = {}
    conflicts = 0
    async with connect(url) as store:

        async def work(task: int) -> None:
            nonlocal conflicts
            own, version = f"own-{name}-{task}", 0
            for number in range(appends):
                size = 1 + number % 3
                events = [NewEvent("Written", [name, task, number, i, size]) for i in range(size)]
                kind = number % 3
                if kind == 0:
                    version = (await store.append(own, events, expected=version)).version
                elif kind == 1:
                    await store.append(f"shared-{number % 4}", events)
                else:
                    try:
                        await store.append(f"first-{task}-{number}", events, expected=NO_STREAM)
                    except ConcurrencyError as error:
                        if error.actual != size:
                            raise
                        conflicts += 1
                        continue
                written[f"{name}/{task}/{number}"] = size

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        async with asyncio.TaskGroup() as group:
            for task in range(tasks):
                group.create_task(work(task))
    sys.stdout.write(json.dumps([written, conflicts]))


asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
