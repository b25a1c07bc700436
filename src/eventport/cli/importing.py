"""`eventport import`: every line checked first, then each event written exactly once."""

from __future__ import annotations

import shutil
import tempfile

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from os import SEEK_END
from typing import BinaryIO, NamedTuple

from eventport.cli.compression import find_compression
from eventport.cli.ndjson import Parsed, check, parse, refuse_repeated_keys
from eventport.errors import EventportError, InvalidEventError
from eventport.placing import batches, write_batch
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import Capability, EventStore


class ImportConflictError(EventportError):
    """A stream of the store holds other events than the file."""


class Imported(NamedTuple):
    """What an import has done."""

    written: int
    """How many events were written."""
    stamped: int
    """How many of these got the time of the import, though their lines give another."""


class Source(NamedTuple):
    """A file whose lines have all been checked."""

    file: BinaryIO
    start: int
    size: int
    """How many bytes of it have been checked; what came later is left for the next import."""
    events: int
    """How many of them can be written."""
    streams: int
    renumber: bool = False
    """Whether versions are counted from 1, whatever the lines say."""
    left_out: int = 0
    """How many are checkpoints of projections, which hold positions of another store."""


@contextmanager
def readable_twice(file: BinaryIO) -> Generator[BinaryIO]:
    """Give the file itself; or a copy on disk of what a pipe, a terminal or an archive holds.

    Raises:
        InvalidEventError: it is compressed, but incomplete or damaged.
        ConfigurationError: it is compressed by zstd, and the extra for that is not installed.
    """
    with ExitStack() as stack:
        if not file.seekable():
            file = _copy(stack, file)
        kind = find_compression(file)
        if kind is None:
            yield file
            return
        with closing(kind.open(file, "rb")) as compressed:
            try:
                copy = _copy(stack, compressed)
            except kind.damage as exc:
                message = (
                    f"line 1: the file is compressed by {kind.name}, but incomplete or damaged: "
                    f"{exc}"
                )
                raise InvalidEventError(message) from exc
        yield copy


def _copy(stack: ExitStack, file: BinaryIO) -> BinaryIO:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


def size_of(file: BinaryIO) -> int:
    """Return how many bytes come after the place where a file stands."""
    start = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(start)
    return end - start


def check_all(
    file: BinaryIO, progress: Callable[[int], object], *, renumber: bool = False
) -> Source:
    """Check all lines of a file.

    Args:
        file: NDJSON, at the place where it begins.
        progress: Is called with the number of bytes of each event's line.
        renumber: Count the versions of each stream from 1, whatever the lines say.

    Raises:
        InvalidEventError: a line is bad.
    """
    start = file.tell()
    size = size_of(file)
    events, left_out = 0, 0
    streams: set[str] = set()
    for parsed in parse(file, size, renumber=renumber, look=refuse_repeated_keys):
        check(parsed)
        if holds_positions(parsed.stream):
            left_out += 1
        else:
            events += 1
            streams.add(parsed.stream)
        progress(parsed.size)
    return Source(file, start, size, events, len(streams), renumber, left_out)


async def write(store: EventStore, source: Source, progress: Callable[[int], object]) -> Imported:
    """Append what is not in the store yet, in the order of the file.

    The events of a batch are committed together if the store can do that; otherwise each run of
    lines of the same stream is a commit. Each append expects the version that the file gives, so
    an import that was interrupted can be run again.

    Args:
        store: Where to write.
        source: What.
        progress: Is called with the number of events of each batch, after it.

    An event keeps the `recorded_at` of its line if the store can keep it.

    Raises:
        ImportConflictError: a stream holds other events; what stands before that line in the file
            has been written.
    """
    written = stamped = 0
    keeps_times = Capability.TIMES in store.capabilities
    source.file.seek(source.start)
    lines = (
        line
        for line in parse(source.file, source.size, renumber=source.renumber)
        if not holds_positions(line.stream)
    )
    if keeps_times:
        lines = (line.copied() for line in lines)
    for batch in batches(lines):
        new = await write_batch(store, batch, _refuse)
        written += len(new)
        stamped += 0 if keeps_times else sum(parsed.recorded_at is not None for parsed in new)
        progress(len(batch))
    return Imported(written, stamped)


def _refuse(parsed: Parsed, there: int) -> ImportConflictError:
    """Make the error for an event that comes too early, or whose place another one has."""
    line, stream, version = parsed.line, parsed.stream, parsed.version
    if there < version - 1:
        message = (
            f"line {line}: stream {stream!r} begins with version {version} in this file, but the "
            f"store has {there} of its events: import the lines before it first, or count the "
            "versions anew with --renumber; neither this line nor any after it was written"
        )
    else:
        message = (
            f"line {line}: stream {stream!r} holds another event at version {version}; neither "
            "this line nor any after it was written"
        )
    return ImportConflictError(message)
