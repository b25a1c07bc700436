"""Append until files may not grow any more, then go on when they may."""

from __future__ import annotations

import asyncio
import os
import resource
import sys

from itertools import count

from eventport import NewEvent, StoreUnavailableError

from eventport_sqlite import SQLiteEventStore


LIMIT = 600_000


def events(number: int) -> list[NewEvent]:
    """Make the events of one append."""
    return [NewEvent("Filled", [number, index, os.urandom(2_000).hex()]) for index in range(5)]


async def fill(path: str) -> None:
    """Print what was acknowledged, what the failure says, and the version after it."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    async with await SQLiteEventStore.open(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        acknowledged = 0
        try:
            for number in count():
                acknowledged = (await store.append("disk", events(number))).version
        except StoreUnavailableError as exc:
            print(acknowledged)  # noqa: T201  # to the test
            print(exc)  # noqa: T201  # to the test
        print((await store.read("disk", max_count=0)).version)  # noqa: T201  # to the test
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        result = await store.append("disk", events(-1), expected=acknowledged)
        print(result.version)  # noqa: T201  # to the test


asyncio.run(fill(sys.argv[1]))
