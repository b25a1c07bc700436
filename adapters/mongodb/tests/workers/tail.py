"""Follow a store until an event of the type ``Ended``, and print what was seen."""

from __future__ import annotations

import asyncio
import json
import sys

from eventport import connect


async def run(url: str) -> None:
    """Print position, stream, version and data of each event."""
    async with connect(url) as store, store.subscribe() as subscription:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        seen: list[object] = []
        async for event in subscription:
            if event.type == "Ended":
                break
            seen.append([event.position, event.stream, event.version, event.data])
    sys.stdout.write(json.dumps(seen))


asyncio.run(run(sys.argv[1]))
