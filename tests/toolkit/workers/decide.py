"""Appends under random conditions, and under one that has nothing to do with anybody else's."""

from __future__ import annotations

import asyncio
import sys

from tests.toolkit.decisions import decide_and_book

from eventport import connect


async def main(url: str, name: str, rounds: int) -> None:
    async with connect(url) as store:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await asyncio.to_thread(sys.stdin.readline)
        print(await decide_and_book(store, name, rounds), flush=True)  # noqa: T201  # as above


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
