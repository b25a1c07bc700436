"""Runs a projection of documents on the store and the checkpoints of a URL, until it is killed."""

from __future__ import annotations

import asyncio
import os
import sys

from collections.abc import Sequence
from typing import Any

from tests.toolkit.counted import COUNTS, Count

from eventport import RecordedEvent, connect
from eventport.projections import Projection, ProjectionContext, Runner, open_checkpoints


counted: Projection[Any] = Projection("counted", batch_size=7)


@counted.on_batch("Placed")
async def count(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
    """Count each event in the document of its stream, and say so before the commit."""
    counts = COUNTS.within(context)
    for event in events:
        found = await counts.get(event.stream) or Count()
        found.events += 1
        found.last = event.version
        await counts.put(event.stream, found)
        os.write(1, f"{event.position}\n".encode())


async def main(url: str) -> None:
    async with connect(url) as store, open_checkpoints(store) as checkpoints:
        os.write(1, b"ready\n")
        await Runner(store, counted, checkpoints, lease=0.4).run()


asyncio.run(main(sys.argv[1]))
