"""Append whatever happens to the servers, and print what was acknowledged when asked to end."""

from __future__ import annotations

import asyncio
import json
import sys

from pathlib import Path

from eventport import connect


sys.path.insert(0, str(Path(__file__).parents[4]))

from adapters.mongodb.tests.ledger import Ledger  # see above


async def run(url: str, name: str, tasks: int) -> None:
    """Print a line for each acknowledged append, and at the end all in one."""
    ledger = Ledger(name)
    ended = False
    async with connect(url) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            for task in range(tasks):
                group.create_task(ledger.write(store, task, lambda: ended))
            await asyncio.to_thread(sys.stdin.readline)
            ended = True
    sys.stdout.write(json.dumps([ledger.acknowledged, ledger.unknown]))


asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
