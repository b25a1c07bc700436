"""eventport."""

from __future__ import annotations

import asyncio
import sys

from answering import DATA, answer

from eventport import NewEvent, connect


async def main(url: str) -> None:
    """Take part."""
    async with connect(url) as store:

        async def append(stream: str, events: int) -> None:
            made = [NewEvent("ItemAdded", DATA) for _ in range(events)]
            await store.append(stream, made, expected="no_stream")

        async def read(stream: str) -> int:
            return len((await store.read(stream)).events)

        await answer(append, read)


asyncio.run(main(sys.argv[1]))
