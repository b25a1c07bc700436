"""`eventport export`: all events in global order, in a file that appears once complete."""

from __future__ import annotations

import os
import secrets
import shutil
import sys

from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import anyio
import typer

from eventport._config.connecting import connect_existing
from eventport.cli.compression import compressing
from eventport.cli.endings import ending, say
from eventport.cli.formats import Format, Write, format_of, writing
from eventport.cli.options import After, Prefix, Store, Types
from eventport.cli.showing import progress_bar
from eventport.protocols import EventStore


DASH: Final = Path("-")
"""Stands for standard input or output."""


def export_events(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Where to; - is standard output. Names that end in .csv, .parquet, .gz or .zst "
            "are written so.",
        ),
    ] = DASH,
    store: Store = None,
    prefix: Prefix = None,
    types: Types = None,
    after: After = 0,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="ndjson can be imported; csv and parquet are tables for analysts. "
            "[default: by the name of the file, or else ndjson]",
        ),
    ] = None,
) -> None:
    """Write all events to a file.

    They are written in the order of the whole store, as import reads them. The file appears only
    once it is complete.
    """

    async def work() -> tuple[int, int]:
        chosen = kind or format_of(file)
        async with connect_existing(store) as source:
            with (
                _open_output(file) as out,
                compressing(file, out) as compressed,
                writing(chosen, compressed) as add,
                progress_bar("exporting", None) as progress,
            ):
                return await write(source, add, after, types or None, prefix, progress)

    with ending():
        events, position = anyio.run(work)
        say(f"{events} events exported; --after {position} gives those that come later")


@contextmanager
def _open_output(file: Path) -> Generator[BinaryIO]:
    opened: AbstractContextManager[BinaryIO] = (
        nullcontext(sys.stdout.buffer) if file == DASH else replacing(file)
    )
    with opened as out:
        yield out
        out.flush()


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
    add: Write,
    after: int,
    types: Collection[str] | None,
    prefix: str | None,
    progress: Callable[[int], object],
) -> tuple[int, int]:
    """Write events.

    Args:
        store: Where from.
        add: Writes one of them.
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
            add(event)
            events, position = events + 1, event.position
            progress(1)
    return events, position
