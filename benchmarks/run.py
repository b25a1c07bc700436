"""Measure the figures that eventport promises; name subjects to measure only those.

With `--quick` all of them take less than three minutes, on fewer rounds and smaller stores.
"""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile

from pathlib import Path

from benchmarks import (
    commands,
    eventstoredb,
    hot_stream,
    inline,
    memory,
    mongodb,
    moving,
    postgres,
    projections,
    sqlite,
)
from benchmarks.measure import HEADER


SUBJECTS = {
    "memory": memory.figures,
    "sqlite": sqlite.figures,
    "postgres": postgres.figures,
    "mongodb": mongodb.figures,
    "projections": projections.figures,
    "eventstoredb": eventstoredb.figures,
    "commands": commands.figures,
    "hot-stream": hot_stream.figures,
    "inline": inline.figures,
    "moving": moving.figures,
}


async def main(names: list[str]) -> None:
    """Measure subjects and print a line for each figure, as it comes."""
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(HEADER)
    for name in names or SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            async for figure in SUBJECTS[name](Path(folder)):
                print(figure, flush=True)


if __name__ == "__main__":
    asyncio.run(main([name for name in sys.argv[1:] if not name.startswith("-")]))
