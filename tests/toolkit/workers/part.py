"""Runs the parts of a divided projection on the store of a URL, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from tests.toolkit.parted import parted

from eventport import connect
from eventport.projections import PartitionedRunner, open_checkpoints


async def main(url: str, lease: float, generation: int) -> None:
    projection = parted(generation=generation, batch_size=3)
    async with connect(url) as store, open_checkpoints(store, url) as checkpoints:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await PartitionedRunner(store, projection, checkpoints, lease=lease).run()
        print("retired", flush=True)  # noqa: T201  # as above


asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
