"""What a contestant in Python does: it makes rounds as it is asked to, and says how long they took.

It imports nothing but the standard library, since it runs in the environment of each peer. A
line of the input is `append TASKS EVENTS COUNT` or `read COUNT`; the answer is a number of things
and the seconds that they took.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import uuid

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter


DATA = {"order": "o-1", "sku": "abc", "quantity": 2, "price": 12.5}
LONG = 1_000


async def answer(
    append: Callable[[str, int], Awaitable[object]], read: Callable[[str], Awaitable[int]]
) -> None:
    """Make rounds with an asynchronous store.

    Args:
        append: Appends so many events to a stream that must not exist.
        read: Reads a stream, and returns how many events it has.
    """
    long = uuid.uuid4().hex
    await append(long, LONG)

    async def appends(tasks: int, events: int, count: int) -> int:
        run = uuid.uuid4().hex

        async def task(name: int) -> None:
            for index in range(count // tasks):
                await append(f"{run}-{name}-{index}", events)

        await asyncio.gather(*(task(name) for name in range(tasks)))
        return count // tasks * tasks * events

    async def reads(count: int) -> int:
        return sum([await read(long) for _ in range(count)])

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *numbers = line.split()
        gc.collect()
        start = perf_counter()
        done = await (appends if what == "append" else reads)(*map(int, numbers))
        print(done, perf_counter() - start, flush=True)


def answer_in_threads(append: Callable[[str, int], object], read: Callable[[str], int]) -> None:
    """Make rounds with a synchronous store: each task is a thread."""
    long = uuid.uuid4().hex
    append(long, LONG)

    def appends(tasks: int, events: int, count: int) -> int:
        run = uuid.uuid4().hex

        def task(name: int) -> None:
            for index in range(count // tasks):
                append(f"{run}-{name}-{index}", events)

        if tasks == 1:
            task(0)
        else:
            list(threads.map(task, range(tasks)))
        return count // tasks * tasks * events

    print("ready", flush=True)
    with ThreadPoolExecutor(256) as threads:
        for line in sys.stdin:
            what, *numbers = line.split()
            gc.collect()
            start = perf_counter()
            if what == "append":
                done = appends(*map(int, numbers))
            else:
                done = sum(read(long) for _ in range(int(numbers[0])))
            print(done, perf_counter() - start, flush=True)
