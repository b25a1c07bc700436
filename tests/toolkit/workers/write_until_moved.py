"""Appends events until the store says that they have moved; notes in a file what came of each."""

from __future__ import annotations

import asyncio
import sys

from itertools import count
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from eventport import EventStore, NewEvent, Session, StoreFencedError, connect, run_in_session


async def main(url: str, outcomes: TextIO) -> None:
    async with connect(url) as store:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await asyncio.to_thread(sys.stdin.readline)
        for number in count():
            if number == 10:
                print("writing", flush=True)  # noqa: T201  # as above
            events = [NewEvent("Written", {"n": number}, id=uuid4()) for _ in range(2)]
            try:
                await append(store, number, events)
            except StoreFencedError as exc:
                outcomes.writelines(f"refused {event.id}\n" for event in events)
                if "have moved" in str(exc):
                    return
            else:
                outcomes.writelines(f"written {event.id}\n" for event in events)
            await asyncio.sleep(0.002)


async def append(store: EventStore, number: int, events: list[NewEvent]) -> None:
    """Append two events, to one stream or to two."""

    async def write(session: Session) -> None:
        for stream, event in zip("ab", events, strict=True):
            await session.append(f"{stream}-{number % 7}", [event])

    if number % 3:
        await run_in_session(store, write)
    else:
        await store.append(f"c-{number % 5}", events)


with Path(sys.argv[2]).open("w", buffering=1) as file:
    asyncio.run(main(sys.argv[1], file))
