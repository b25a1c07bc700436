"""`eventport import`: every line checked first, then each event written exactly once."""

from __future__ import annotations

import shutil
import tempfile
import zlib

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from gzip import BadGzipFile, GzipFile
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

from anyio import create_task_group

from eventport.cli.ndjson import Parsed, check, parse, refuse_repeated_keys
from eventport.conflicts import run_in_session
from eventport.errors import EventportError, InvalidEventError
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import Capability, EventStore, Streams


MAX_BATCH_EVENTS: Final = 1_000
"""How many events one session commits, at most."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of lines one session commits, unless a single line is longer."""

READERS: Final = 16
"""How many streams are read at the same time."""


_GZIP: Final = b"\x1f\x8b"
"""The first bytes of a file that gzip has compressed."""


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
    """Give the file itself; or a copy on disk of what a pipe, a terminal or gzip holds."""
    with ExitStack() as stack:
        if not file.seekable():
            file = _copy(stack, file)
        start = file.tell()
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(start)
        yield _copy(stack, GzipFile(fileobj=file)) if compressed else file


def _copy(stack: ExitStack, file: BinaryIO | GzipFile) -> BinaryIO:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    try:
        shutil.copyfileobj(file, copy)
    except (BadGzipFile, EOFError, zlib.error) as exc:
        message = f"line 1: the file is compressed by gzip, but incomplete or damaged: {exc}"
        raise InvalidEventError(message) from exc
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
    lines = parse(source.file, source.size, renumber=source.renumber)
    for batch in _batches(line for line in lines if not holds_positions(line.stream)):
        work = partial(_write_batch, batch, keeps_times)
        if Capability.SESSIONS in store.capabilities:
            new = await run_in_session(store, work)
        else:
            new = await work(store)
        written += len(new)
        stamped += 0 if keeps_times else sum(parsed.recorded_at is not None for parsed in new)
        progress(len(batch))
    return Imported(written, stamped)


def _batches(events: Iterable[Parsed]) -> Iterator[Sequence[Parsed]]:
    batch: list[Parsed] = []
    size = 0
    for parsed in events:
        size += parsed.size
        if batch and (len(batch) == MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], parsed.size
        batch.append(parsed)
    if batch:
        yield batch


async def _write_batch(
    batch: Sequence[Parsed],
    keeps_times: bool,  # noqa: FBT001  # the caller's partial names no arguments
    streams: Streams,
) -> Sequence[Parsed]:
    """Append what is not there yet, and return it."""
    there = await _find(batch, streams)
    new = [parsed for parsed in batch if parsed.version > there[parsed.stream]]
    for run in _runs(new):
        events = [parsed.copied() if keeps_times else parsed.event for parsed in run]
        await streams.append(run[0].stream, events, expected=run[0].version - 1)
    return new


def _runs(events: Iterable[Parsed]) -> Iterator[Sequence[Parsed]]:
    """Group neighbours of the same stream; an id that is repeated cannot be in the same append."""
    run: list[Parsed] = []
    ids: set[UUID] = set()
    for parsed in events:
        if run and (parsed.stream != run[0].stream or parsed.event.id in ids):
            yield run
            run, ids = [], set()
        run.append(parsed)
        ids.add(parsed.event.id)
    if run:
        yield run


async def _find(batch: Sequence[Parsed], streams: Streams) -> dict[str, int]:
    """Return the version of each stream; refuse one whose events are not those of the file.

    In a session this also pins the streams, several at the same time, so that the appends need
    not read them one by one.
    """
    by_stream: dict[str, list[Parsed]] = {}
    for parsed in batch:
        by_stream.setdefault(parsed.stream, []).append(parsed)
    there: dict[str, int] = {}
    others: list[Parsed] = []
    ahead: list[Parsed] = []
    waiting = iter(by_stream.items())

    async def look() -> None:
        for stream, events in waiting:
            first, last = events[0].version, events[-1].version
            found = await streams.read(stream, from_version=first, to_version=last)
            there[stream] = found.version
            if found.version < first - 1:
                ahead.append(events[0])
            for parsed, stored in zip(events, found.events, strict=False):
                if stored.id != parsed.event.id:
                    others.append(parsed)
                    break

    try:
        async with create_task_group() as group:
            for _ in range(min(READERS, len(by_stream))):
                group.start_soon(look)
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from exc
    _refuse_others(ahead, others, there)
    return there


def _refuse_others(
    ahead: Sequence[Parsed], others: Sequence[Parsed], there: Mapping[str, int]
) -> None:
    """Refuse events that come too early for their stream, or that are not those of the store."""
    if ahead:
        part = min(ahead)
        message = (
            f"line {part.line}: stream {part.stream!r} begins with version {part.version} in this "
            f"file, but the store has {there[part.stream]} of its events: import the lines before "
            "it first, or count the versions anew with --renumber; neither this line nor any after "
            "it was written"
        )
        raise ImportConflictError(message)
    if others:
        other = min(others)
        message = (
            f"line {other.line}: stream {other.stream!r} holds another event at version "
            f"{other.version}; neither this line nor any after it was written"
        )
        raise ImportConflictError(message)
