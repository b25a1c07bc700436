"""Append many times, several events each, in tasks that share streams with other processes."""

from __future__ import annotations

import asyncio
import random
import sys

from functools import partial

from eventport import NewEvent, Session, run_in_session

from eventport_sqlite import SQLiteEventStore


TASKS = 5


def events(writer: str, number: int, count: int) -> list[NewEvent]:
    """Make the events of one append, each saying which of how many it is."""
    return [NewEvent("Written", [writer, number, index, count]) for index in range(count)]


async def write(store: SQLiteEventStore, writer: str, appends: int) -> int:
    """Append so many times; every fifth time to two streams in one session."""
    chosen = random.Random(writer)
    written = 0
    for number in range(appends):
        own = events(writer, number, chosen.randint(2, 5))
        stream = f"{'s' if number % 5 else 'p'}-{chosen.randrange(12)}"
        if number % 5:
            await store.append(stream, own)
        else:
            await run_in_session(store, partial(append_to_two, stream, own), attempts=50)
        written += len(own)
    return written


async def append_to_two(stream: str, own: list[NewEvent], session: Session) -> None:
    """Append one event to a stream, and the others to a second one beside it."""
    await session.append(stream, own[:1])
    await session.append(f"{stream}-more", own[1:])


async def run(path: str, name: str, appends: int) -> int:
    """Share the work among tasks, and return how many events were written."""
    async with await SQLiteEventStore.open(path) as store:
        tasks = [write(store, f"{name}{task}", appends // TASKS) for task in range(TASKS)]
        return sum(await asyncio.gather(*tasks))


print("ready", flush=True)  # noqa: T201  # to the test
sys.stdin.readline()
print(asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))))  # noqa: T201  # to the test
