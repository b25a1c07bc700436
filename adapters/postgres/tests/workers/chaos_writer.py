"""Appends until its input ends, and writes down what it tries and what is acknowledged."""

from __future__ import annotations

import asyncio
import logging
import sys

from pathlib import Path
from typing import TextIO

from eventport import ANY, ConcurrencyError, ConfigurationError, NewEvent, StoreUnavailableError

from eventport_postgres import PostgresEventStore


TASKS = 4


async def work(
    store: PostgresEventStore, name: str, journal: TextIO, ending: asyncio.Event
) -> None:
    """Append to a stream of its own, with exact versions, and to some that all share."""
    version = 0
    number = 0
    while not ending.is_set():
        number += 1
        own = number % 2 == 0
        events = [NewEvent("E", f"{name} {number}") for _ in range(1 + number % 3)]
        ids = " ".join(str(event.id) for event in events)
        journal.write(f"try {ids}\n")
        journal.flush()  # it may be killed at any moment
        try:
            result = await store.append(
                name if own else f"shared-{number % 5}", events, expected=version if own else ANY
            )
        except (StoreUnavailableError, ConcurrencyError):
            version = await find_version(store, name, ending)
            continue
        journal.write(f"ack {events[-1].id} {result.version} {result.position}\n")
        journal.flush()
        version = result.version if own else version


async def find_version(store: PostgresEventStore, name: str, ending: asyncio.Event) -> int:
    """Return the version of a stream, as soon as it can be read."""
    while not ending.is_set():
        try:
            return (await store.read(name, max_count=0)).version
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
    return 0


async def main(url: str, schema: str, name: str, journal: TextIO) -> None:
    """Work until the input ends."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, ending.set)
    store: PostgresEventStore | None = None
    while store is None and not ending.is_set():
        try:
            store = await PostgresEventStore.connect(url, schema=schema, timeout=3)
        except (StoreUnavailableError, ConfigurationError):  # the server is down, or refuses
            await asyncio.sleep(0.05)
    if store is not None:
        async with store:
            await asyncio.gather(
                *(work(store, f"{name}-{task}", journal, ending) for task in range(TASKS))
            )


if __name__ == "__main__":
    logging.disable()  # a lot goes wrong on purpose
    url, schema, name, path = sys.argv[1:]
    with Path(path).open("a") as opened:
        asyncio.run(main(url, schema, name, opened))
