"""Runs the projection of totals on the store and the checkpoints of a URL, until it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from typing import Any

from tests.toolkit.read_models import totals

from eventport import RecordedEvent, connect
from eventport.projections import ProjectionContext, Runner, open_checkpoints


async def main(url: str, lease: float, generation: int, batch_size: int) -> None:
    projection = totals(generation=generation, batch_size=batch_size)

    @projection.on("Halt")
    async def halt(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        if event.data["pid"] == os.getpid():
            os.kill(os.getpid(), signal.SIGSTOP)

    async with connect(url) as store, open_checkpoints(store, url) as checkpoints:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await Runner(store, projection, checkpoints, lease=lease).run()
        print("retired", flush=True)  # noqa: T201  # as above


asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
