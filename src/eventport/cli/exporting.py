"""`eventport export`: all events in global order, in a file that appears once complete."""

from __future__ import annotations

import os
import secrets
import shutil

from collections.abc import Callable, Collection, Generator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

from eventport.cli.ndjson import export_line
from eventport.protocols import EventStore


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary file that replaces the real one if the block succeeds, or else vanishes."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:  # a device or a pipe, which cannot be replaced
            yield file
        return
    path = path.resolve()
    path.parent.resolve(strict=True)  # so that an error names it, and not the temporary file
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


async def write(
    store: EventStore,
    file: BinaryIO,
    after: int,
    types: Collection[str] | None,
    prefix: str | None,
    progress: Callable[[int], object],
) -> tuple[int, int]:
    """Write events to a file.

    Args:
        store: Where from.
        file: Where to.
        after: Only events after this position.
        types: Only events of these types.
        prefix: Only events of streams whose name starts with this.
        progress: Is called with 1 after each event.

    Returns:
        How many events were written, and the position of the last one.
    """
    events, position = 0, after
    async with aclosing(store.iterate_all(after=after, types=types, prefix=prefix)) as found:
        async for event in found:
            file.write(export_line(event))
            events, position = events + 1, event.position
            progress(1)
    file.flush()
    return events, position
